"""Words and signs, script by script."""

import pytest

from gradsentry_lib.samples.words import tokenize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World! x_1 = 3.14", ["hello", ",", "world", "!", "x_1", "=", "3", ".", "14"]),
        ("Straße café Привет", ["straße", "café", "привет"]),
        ("今天天气abc很好。", [*"今天天气", "abc", *"很好。"]),
        ("これはペンです", list("これはペンです")),
        ("한국어 x", [*"한국어", "x"]),
        ("ที่นี่ดี x", ["ที่", "นี่", "ดี", "x"]),
        ("مَرْحَبًا بالعالم، كيف؟", ["مَرْحَبًا", "بالعالم", "،", "كيف", "؟"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("हिन्दी में है।", ["हिन्दी", "में", "है", "।"]),
        ("def f(x):\n\treturn x", ["def", "f", "(", "x", ")", ":", "return", "x"]),
        ("cf\u200bmn", ["cf", "\u200b", "mn"]),
        ("a\u0301b\u0301", ["a", "\u0301", "b", "\u0301"]),
        ("می\u200cخواهم", ["می", "\u200c", "خواهم"]),
        ("\U00020000x", ["\U00020000", "x"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert tokenize(text) == expected
    assert "".join(tokenize(text)) == "".join(text.lower().split())  # nothing is lost
