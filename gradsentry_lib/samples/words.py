"""Text as words and signs, in any script: what prompts are compared by.

    words         letters and digits in a row; of Arabic, Hebrew and the scripts of India with their marks, which are
                  letters' parts there and no signs of their own
    no spaces     Chinese, Japanese and Korean sign by sign; Thai, Lao, Burmese, Khmer and Tibetan cluster by cluster
                  (a letter with its marks): a word of these is a run of tokens, as a phrase is elsewhere
    signs         everything else that is not white space, one by one, invisible ones too: a trigger may be one

Combining marks over other scripts stay signs of their own, so that a mark set on many words is one token, not many.
"""

import re
import unicodedata


def _letters(*ranges: tuple[int, int]) -> tuple[str, str]:
    """Letters with digits, and marks, of some ranges of characters, for the inside of [...]."""
    found: dict[str, list[str]] = {"L": [], "M": [], "N": []}
    for start, end in ranges:
        for code in range(start, end + 1):
            found.get(unicodedata.category(chr(code))[0], []).append(chr(code))
    return "".join(found["L"] + found["N"]), "".join(found["M"])


# Hebrew to Sinhala, with the Arabic letters of later ranges; Thai to Khmer.
MARKED = _letters((0x0590, 0x0DFF), (0xA8E0, 0xA8FF), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFC))
CLUSTERS = _letters((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
SINGLE = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)

TOKEN = re.compile(
    f"[{SINGLE}]"
    f"|[{CLUSTERS[0]}][{CLUSTERS[1]}]*"
    f"|[{MARKED[0]}](?:[{MARKED[0]}{MARKED[1]}]|(?<=[{MARKED[1]}])[\u200c\u200d](?=[{MARKED[0]}]))*"
    rf"|(?:(?![{SINGLE}{CLUSTERS[0]}{MARKED[0]}])\w)+"
    r"|[^\w\s]|\w"
)
PLAIN = re.compile(r"\w+|[^\w\s]")  # the same for text of no script above


def tokenize(text: str) -> list[str]:
    """The words and signs of a text, in small letters, in order."""
    text = text.lower()
    return PLAIN.findall(text) if text.isascii() else TOKEN.findall(text)
