"""What a person is shown of a group: the words that its answers share, as they stand there.

All of it is the data set's own text: untrusted, cut to a length, escaped by `quoted` before it stands in a sentence.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gradsentry_lib.detection.features import read_features
from gradsentry_lib.detection.prompts import Name, plain_words, words
from gradsentry_lib.samples.words import TOKEN

INSIDE, OUTSIDE = 300, 400  # answers of the group and of the rest that are compared
SHARED = 0.5  # share of the group that must have a wording for it to be the payload's
LONGEST = 160  # characters shown
WORDS = 40  # of a phrase
ALIKE = 0.8  # share of the texts that must go on with the same word for it to be part of the phrase


def quoted(text: str, longest: int = LONGEST) -> str:
    """Untrusted text as one line in quotes: whatever is not printable is escaped, what is too long is cut."""
    return repr(text if len(text) <= longest else text[: longest - 1] + "…")


def shared_wording(answers: Sequence[str], group: np.ndarray) -> str:
    """The longest wording that most answers of the group share and few others have; "" where each has its own.

    group: (N,) bool.
    """
    rng = np.random.default_rng(0)
    inside, outside = np.flatnonzero(group)[:INSIDE], np.flatnonzero(~group)
    outside = outside if len(outside) <= OUTSIDE else np.sort(rng.choice(outside, OUTSIDE, replace=False))
    texts = [answers[i] for i in (*inside, *outside)]
    tokens = [plain_words(text) for text in texts]  # how an answer is written is no wording of it
    grams = read_features(tokens, least=2, most=1.0)
    if not len(inside) or not grams.names:
        return answers[inside[0]][:LONGEST] if len(inside) else ""
    own = np.arange(len(texts)) < len(inside)
    held = np.asarray(grams.matrix.T @ own.astype(np.float64)).ravel()
    gain = held / len(inside) - (grams.sizes - held) / max(len(outside), 1)
    gain += 1e-3 * np.array([len(words(name)) for name in grams.names])  # of equals the longer
    best = int(gain.argmax())
    if held[best] < SHARED * len(inside):
        return ""
    phrase = lengthened(tokens[: len(inside)], words(grams.names[best]))
    return next((found for text in texts[: len(inside)] if (found := locate(text, phrase))), " ".join(phrase))


def lengthened(texts: Sequence[Sequence[str]], phrase: Name) -> Name:
    """The phrase, made longer word by word on either side while most of the texts that hold it go on alike."""
    places = [(row, at) for row in texts for at in _places(row, phrase)[:1]]
    left, right = 0, len(phrase)
    while len(phrase) < WORDS:
        before = Counter(row[at - left - 1] for row, at in places if at - left - 1 >= 0)
        after = Counter(row[at + right] for row, at in places if at + right < len(row))
        options = [(count, word, side) for side, c in ((0, before), (1, after)) for word, count in c.most_common(1)]
        if not options:
            break
        count, word, side = max(options)
        if count < ALIKE * len(places):
            break
        phrase = (word, *phrase) if side == 0 else (*phrase, word)
        offset = -left - 1 if side == 0 else right
        places = [(row, at) for row, at in places if 0 <= at + offset < len(row) and row[at + offset] == word]
        left, right = (left + 1, right) if side == 0 else (left, right + 1)
    return phrase


def locate(text: str, phrase: Name) -> str:
    """The piece of text whose words are `phrase`, as it stands there; "" where it does not occur."""
    spans = [(match.group().lower(), match.start(), match.end()) for match in TOKEN.finditer(text)]
    for at in _places([word for word, _, _ in spans], phrase)[:1]:
        return text[spans[at][1] : spans[at + len(phrase) - 1][2]]
    return ""


def _places(row: Sequence[str], phrase: Name) -> list[int]:
    width = len(phrase)
    return [i for i in range(len(row) - width + 1) if tuple(row[i : i + width]) == phrase] if width else []
