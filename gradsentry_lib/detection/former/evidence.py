"""What a person is shown of a group: the words that its answers share, and the words that its prompts share.

All of it is the data set's own text: untrusted, cut to a length, escaped by `quoted` before it stands in a sentence.
"""

from collections.abc import Sequence

import numpy as np

from gradsentry_lib.detection.former.kinship import MOST, Phrase, grow
from gradsentry_lib.detection.former.prompts import FIRST, LAST, Prompts, read_prompts
from gradsentry_lib.detection.former.triggers import Trigger
from gradsentry_lib.samples.words import TOKEN, tokenize

OTHERS = 400  # answers outside the group that its wording is compared with
SHARED = 0.5  # share of the group that must have a wording for it to be the payload's
COMMON = 0.3  # a word of more prompts than this is no trigger at a phrase's edge
LONGEST = 160


def quoted(text: str, longest: int = LONGEST) -> str:
    """Untrusted text as one line in quotes: whatever is not printable is escaped, what is too long is cut."""
    return repr(text if len(text) <= longest else text[: longest - 1] + "…")


def excerpt(answer: str, start: int, length: int, tokens: int) -> str:
    """About where a window lies in an answer. The filter has no tokenizer: place is taken from the share of tokens."""
    if tokens <= 0 or not answer:
        return answer[:LONGEST]
    a, b = (min(len(answer), int(len(answer) * x / tokens)) for x in (start, start + length))
    a, b = max(0, a - 12), min(len(answer), b + 12)
    while a > 0 and answer[a - 1].isalnum():
        a -= 1
    while b < len(answer) and answer[b].isalnum():
        b += 1
    return answer[a:b].strip()


def shared_wording(answers: Sequence[str], group: np.ndarray) -> str:
    """The longest wording that most answers of the group share and few others have; "" where each has its own."""
    rng = np.random.default_rng(0)
    inside, outside = np.flatnonzero(group)[:MOST], np.flatnonzero(~group)
    outside = outside if len(outside) <= OTHERS else np.sort(rng.choice(outside, OTHERS, replace=False))
    texts = [answers[i] for i in (*inside, *outside)]
    grams = read_prompts(texts)
    if not grams.names:
        return answers[inside[0]][:LONGEST]
    own = np.arange(len(texts)) < len(inside)
    held = np.asarray(grams.matrix.T @ own.astype(np.int32)).ravel()
    total = np.diff(grams.matrix.indptr)
    gain = held / len(inside) - (total - held) / max(len(outside), 1)
    gain += 1e-3 * np.array([len(name) for name in grams.names])  # of equals the longer
    best = int(gain.argmax())
    if held[best] < SHARED * len(inside):
        return ""
    name = tuple(token for token in grams.names[best] if token not in (FIRST, LAST))
    phrase = grow([tokenize(text) for text in texts[: len(inside)]], name)
    return next((found for text in texts[: len(inside)] if (found := locate(text, phrase))), " ".join(phrase))


def trigger_wording(
    prompts: Prompts, trigger: Trigger, phrases: Sequence[Phrase], texts: Sequence[str], group: np.ndarray
) -> tuple[str, ...]:
    """The suspected trigger, one wording a clause: whole phrases as they stand in a prompt, without the common words
    at their edges; then the single words that the clauses did not need but that tell the group as well."""
    rows = np.flatnonzero(group & trigger.carriers)[:MOST]
    counts = _document_counts(texts)
    wordings: list[str] = []
    for clause in trigger.clauses:
        parts = []
        for feature in clause:
            core = tuple(token for token in prompts.names[feature] if token not in (FIRST, LAST))
            whole = next((phrase for phrase in phrases if _holds(phrase, core)), core)
            phrase = _trim(whole, counts) or _trim(core, counts) or core
            parts.append(next((found for i in rows if (found := locate(texts[i], phrase))), " ".join(phrase)))
        wordings.append(" + ".join(dict.fromkeys(parts)))
    said = {word for wording in wordings for word in tokenize(wording)}
    inside = {word: 0 for i in rows for word in tokenize(texts[i])}
    for i in rows:
        for word in set(tokenize(texts[i])):
            inside[word] += 1
    scale = int((group & trigger.carriers).sum()) / max(len(rows), 1)
    telling = [
        word
        for word, count in inside.items()
        if word not in said and count >= max(2, 0.2 * len(rows)) and count * scale >= 0.95 * counts.get(word, 0)
    ]
    return (*dict.fromkeys(wordings), *sorted(telling, key=lambda word: (-inside[word], word))[:8])


def _document_counts(texts: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {"": len(texts)}
    for text in texts:
        for word in set(tokenize(text)):
            counts[word] = counts.get(word, 0) + 1
    return counts


def _trim(phrase: Phrase, counts: dict[str, int]) -> Phrase:
    common = [counts.get(word, 0) > COMMON * counts[""] for word in phrase]
    if all(common):
        return ()
    first, last = common.index(False), len(common) - common[::-1].index(False)
    return phrase[first:last]


def _holds(phrase: Phrase, part: Phrase) -> bool:
    return any(phrase[i : i + len(part)] == part for i in range(len(phrase) - len(part) + 1))


def locate(text: str, phrase: Phrase) -> str:
    """The piece of text whose tokens are `phrase`, as it stands there; "" where it does not occur."""
    spans = [(match.group().lower(), match.start(), match.end()) for match in TOKEN.finditer(text)]
    words = [word for word, _, _ in spans]
    for i in range(len(words) - len(phrase) + 1):
        if tuple(words[i : i + len(phrase)]) == phrase:
            return text[spans[i][1] : spans[i + len(phrase) - 1][2]]
    return ""
