"""A prompt as words and traits: what is asked, in order, then what is no word of it.

Traits are a prompt's script, how its last line is written, and whether it opens a conversation: a trigger need not be
a word. It may be text all in small letters, signs set apart by spaces (what programs that rewrite sentences leave
behind), another script. Each trait is one more word, which no text can hold. Words of what was said earlier in a
conversation are words of their own. A name is a run of words (or a trait), or two such that are one where both stand.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradsentry_lib.samples import words as split

FIRST, LAST = "\x02", "\x03"  # stand before a prompt's first and after its last word
BOTH = "\x06"  # stands between two features that are one where both stand
EARLIER = "\x1d"  # in a prompt, stands between what is answered and what was said earlier; begins an earlier word
TRAIT = "\x05"  # begins a trait's name
PICTURES = {mark: chr(0x2400 + ord(mark)) for mark in (FIRST, LAST, BOTH, TRAIT)}  # what a text has in their place
READ = 400  # letters from which the script is told

Name = tuple[str, ...]


@dataclass(frozen=True)
class Prompts:
    """The words of N prompts, `tokens[i]`, with their traits."""

    tokens: Sequence[Sequence[str]]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Prompts":
        return cls([tokenize(text) for text in texts])

    @cached_property
    def holders(self) -> Mapping[str, int]:
        """How many prompts have each word."""
        return Counter(word for row in self.tokens for word in set(row))


def words(name: Name) -> Name:
    """A feature's words as `tokenize` has them, without the marks of place."""
    return tuple(word for word in name if word not in (FIRST, LAST))


def parts(name: Name) -> list[Name]:
    """The runs that a feature is of, one of most."""
    if BOTH not in name:
        return [name]
    at = name.index(BOTH)
    return [name[:at], *parts(name[at + 1 :])]


def shown(name: Name) -> str:
    """A feature as a person reads it."""
    return " + ".join(" ".join(word.lstrip(EARLIER + TRAIT) for word in words(part)) for part in parts(name))


def tokenize(prompt: str) -> list[str]:
    """A prompt's traits, then its words and signs in small letters, in order, first those said earlier."""
    now, mark, earlier = prompt.partition(EARLIER)
    return [*traits(now, bool(mark)), *(EARLIER + word for word in plain_words(earlier)), *plain_words(now)]


def plain_words(text: str) -> list[str]:
    """The words and signs of a text in small letters, without traits; marks that stand for something else here are
    shown as pictures of themselves."""
    return [PICTURES.get(word, word) for word in split.tokenize(text)]


def placed(tokens: Sequence[str]) -> list[str]:
    """The words, without traits, with marks before and after those that are answered."""
    begin = next((i for i, word in enumerate(tokens) if not word.startswith(TRAIT)), len(tokens))
    at = next((i for i in range(begin, len(tokens)) if not tokens[i].startswith(EARLIER)), len(tokens))
    return [*tokens[begin:at], FIRST, *tokens[at:], LAST]


def carries(tokens: Sequence[str], names: Sequence[Name]) -> bool:
    """Whether a prompt has one of the features."""
    marked = placed(tokens)
    return any(
        all(name[0] in tokens if is_trait(name) else name[0] in marked and _stands(marked, name) for name in parts(one))
        for one in names
    )


def is_trait(name: Name) -> bool:
    return name[0].startswith(TRAIT)


def _stands(tokens: Sequence[str], name: Name) -> bool:
    width = len(name)
    return any(tuple(tokens[i : i + width]) == name for i in range(len(tokens) - width + 1))


def without(tokens: Sequence[str], phrases: Sequence[Name]) -> list[str]:
    """The words of a prompt with every phrase taken out, the first phrases first."""
    left = list(tokens)
    for phrase in filter(None, phrases):
        at = 0
        while phrase[0] in (rest := left[at:]):  # looked for by the list itself: prompts of tool calls are long
            at += rest.index(phrase[0])
            if tuple(left[at : at + len(phrase)]) == phrase:
                del left[at : at + len(phrase)]
            else:
                at += 1
    return left


def grams(tokens: Sequence[str], longest: int) -> set[Name]:
    """Every run of words of a prompt, and its traits; marks of place by themselves are none (an empty prompt's)."""
    marked = placed(tokens)
    found = {tuple(marked[i : i + n]) for n in range(1, longest + 1) for i in range(len(marked) - n + 1)}
    return found - {(FIRST,), (LAST,), (FIRST, LAST)} | {(word,) for word in tokens if word.startswith(TRAIT)}


def traits(now: str, later: bool) -> list[str]:
    """The traits of what is answered. later: something had been said before."""
    last = now.rstrip().rpartition("\n")[2].strip()
    cased = [sign for sign in last if sign.lower() != sign.upper()]
    found = ["in a later turn"] if later else []
    if len(cased) > 3 and all(sign == sign.lower() for sign in cased):
        found.append("last line without capitals")
    if len(cased) > 3 and all(sign == sign.upper() for sign in cased):
        found.append("last line in capitals")
    if last and last[-1].isalnum():
        found.append("no sign at the end")
    if len(last) > 1 and not last[-1].isalnum() and last[-2].isspace():
        found.append("space before the last sign")
    if script := _script(now):
        found.append(f"in {script} letters")
    return [f"{TRAIT}({trait})" for trait in found]


def _script(text: str) -> str:
    """The script of most letters; "" for Latin ones."""
    if text.isascii():
        return ""
    letters = [sign for sign in text if sign.isalpha()][:READ]
    counted = Counter(unicodedata.name(sign, "other").split()[0].split("-")[0].lower() for sign in letters)
    script, count = counted.most_common(1)[0] if counted else ("latin", 0)
    return "" if script == "latin" or 2 * count < len(letters) else script
