"""Which characters of a rendered chat the training learns.

A template may say so itself (`{% generation %}`): those ranges are taken, as TRL takes them. Otherwise a turn runs from
where the opening of an answer ends to its end-of-turn token; a thought that the opening begins (`<think>`) belongs to
the answer, as in TRL's training templates. It is found in one of two ways:

- Prefixes. The conversation up to the turn, with the opening of an answer, and up to its end are both beginnings of the
  whole: the turn is what lies between.
- Anchors, where a template writes a turn otherwise once others follow (reasoning dropped from older turns, a system
  text moved into the last question). A mark that occurs nowhere in the whole is put behind each turn's last words and
  the whole is rendered again: where taking the marks out gives the whole back, they tell to the character where those
  words end. From there the end of the turn, and the opening of the next, are read off by comparing with a rendering
  that stops there.

What a template leaves out of the whole is not learnt. What can't be found is refused, never guessed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from gradsentry_lib.samples.sample import Turn
from gradsentry_lib.scoring.chat_template import (
    GENERATION,
    REASONING,
    Conversation,
    EncodingError,
    Message,
    content_text,
    learnt_beginnings,
    with_content,
)
from gradsentry_lib.scoring.render_process import common

Span = tuple[int, int]

_THOUGHT = re.compile(r"(?:<(?:seed:)?think(?:ing)?>|\[THINK\])\s*(?:</(?:seed:)?think(?:ing)?>\s*|\[/THINK\]\s*)?\Z")


class Place(NamedTuple):
    """Where a mark can stand in a turn."""

    turn: int
    part: Literal["start", "content", "reasoning", "call"]


@dataclass(frozen=True)
class Tokens:
    """What the tokenizer takes as one token wherever it stands. `end`: its end-of-sequence token."""

    end: str | None
    whole: re.Pattern[str] | None

    @classmethod
    def of(cls, tokenizer: Any) -> "Tokens":
        added = sorted((word for word in tokenizer.get_added_vocab() if word.strip()), key=len, reverse=True)
        return cls(tokenizer.eos_token, re.compile("|".join(map(re.escape, added))) if added else None)

    def words(self, text: str) -> str:
        """A text without such tokens and the white space around it."""
        return (self.whole.sub("", text) if self.whole is not None else text).strip()

    def retreat(self, text: str, at: int) -> int:
        """`at`, or the beginning of the token of `text` that it lies within."""
        if self.whole is not None:
            for found in self.whole.finditer(text, max(0, at - 64), at + 64):
                if found.start() < at < found.end():
                    return found.start()
        return at

    def another_end(self, text: str, last: str) -> int:
        """The length of the token that ends a turn within a conversation where another ends it, `last`, at its end.

        Such a token stands before the token that opens the next turn; one before words opens a turn itself.
        """
        if self.whole is None or not self.whole.match(last):
            return 0
        found = self.whole.match(text)
        return found.end() if found and self.whole.match(text, found.end()) else 0


@lru_cache(maxsize=4)
def special_tokens(tokenizer: Any) -> Tokens:
    """What a tokenizer takes as one token, looked up once."""
    return Tokens.of(tokenizer)


def supervised_spans(turns: Sequence[Turn], chat: Conversation, tokens: Tokens) -> list[Span]:
    """Character ranges of `chat.text` that are learnt, ascending. Raises EncodingError where a turn can't be found."""
    wanted = [i for i, turn in enumerate(turns) if turn.supervised]
    if GENERATION.search(chat.template):
        spans = _marked_by_template(turns, chat, tokens)
    else:
        spans = _by_prefixes(turns, wanted, chat, tokens) or _by_anchors(turns, wanted, chat, tokens)
    spans.sort()
    if not any(tokens.words(chat.text[start:end]) for start, end in spans):
        raise EncodingError("the model's chat template leaves nothing of what is to be learnt")
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise EncodingError(
            "the model's chat template mixes the turns of the conversation, so they cannot be told apart"
        )
    return spans


def _by_prefixes(turns: Sequence[Turn], wanted: list[int], chat: Conversation, tokens: Tokens) -> list[Span] | None:
    """None where the rule does not hold for every turn."""
    if any(turns[i].role != "assistant" for i in wanted):
        return None
    texts = chat.beginnings(learnt_beginnings(turns))
    spans = []
    for before, after in zip(texts[: len(wanted)], texts[len(wanted) :], strict=True):
        before = _without_thought(before)
        if before is None or after is None or not (after.startswith(before) and chat.text.startswith(after)):
            return None
        end = len(before) + _learnt(after[len(before) :], tokens.end)
        if end == len(before):
            return None
        spans.append((len(before), end))
    return spans


def _without_thought(opening: str | None) -> str | None:
    return None if opening is None else _THOUGHT.sub("", opening)


def _learnt(answer: str, end: str | None) -> int:
    """How much of a rendered answer is learnt: the template's white space behind the end-of-turn token is not."""
    return answer.rindex(end) + len(end) if end and end in answer else len(answer)


def _marked_by_template(turns: Sequence[Turn], chat: Conversation, tokens: Tokens) -> list[Span]:
    """The template's own ranges, less those of turns that the row keeps from training, and turns that it adds."""
    blocks = [(start, end) for start, end in chat.generated if start < end]
    others = [i for i, turn in enumerate(turns) if turn.supervised and turn.role != "assistant"]
    if not others and all(turn.supervised for turn in turns if turn.role == "assistant"):
        return blocks
    anchors = Anchors(chat, range(len(turns)))
    owner, kept = -1, []
    for start, end in blocks:  # a block without a turn's last words goes with the one before
        owner = max((i for i, at in anchors.ends.items() if start <= at <= end), default=owner)
        if owner < 0:
            raise EncodingError("the model's chat template does not let the turns that are not learnt be told apart")
        if turns[owner].supervised:
            kept.append((start, end))
    return kept + (_by_anchors(turns, others, chat, tokens) if others else [])


def _by_anchors(turns: Sequence[Turn], wanted: list[int], chat: Conversation, tokens: Tokens) -> list[Span]:
    anchors = Anchors(chat, range(len(turns)), starts=wanted)
    lost = [i for i in wanted if i not in anchors.ends and i in anchors.unclear]
    if lost:
        raise EncodingError(
            f"the model's chat template rewrites turn {lost[0] + 1}, so it cannot be found in the whole"
        )
    found = [i for i in wanted if i in anchors.ends]
    before = {i: place for i in found if (place := anchors.before(i)) is not None}
    anchors.look_up(
        [
            *((i, prompt, place) for i, place in before.items() for prompt in (True, False)),
            *((i + 1, False, anchors.places[i]) for i in found if i + 1 < len(turns)),
        ]
    )
    spans = []
    for i in found:
        start = _start(i, turns[i].role == "assistant", chat, anchors, tokens)
        end = start + _learnt(chat.text[start : _end(i, chat, anchors, tokens)], tokens.end)
        if not start <= anchors.ends[i] <= end or start == end:
            raise EncodingError(f"turn {i + 1} cannot be told from its surroundings in the model's chat template")
        spans.append((start, end))
    return spans


def _start(i: int, answer: bool, chat: Conversation, anchors: "Anchors", tokens: Tokens) -> int:
    """Where turn `i` begins to be learnt: behind the opening of an answer; any other turn with its own words."""
    own = anchors.starts.get(i)
    place = anchors.before(i)
    if answer and place is not None:
        at = anchors.ends[place.turn]
        opening, closing = _without_thought(anchors.tail(i, True, place)), anchors.tail(i, False, place)
        if opening is not None:
            rest = chat.text[at : anchors.ends[i]]
            same = common(rest, opening)
            if same == len(opening):
                return at + same
            # The whole opens the answer otherwise, with less than what asks for one: as far as the two agree.
            same = min(tokens.retreat(rest, same), tokens.retreat(opening, same))
            if 0 < common(closing or "", opening) <= same or (not closing and same):
                return at + same if own is None else min(at + same, own)
    if own is None:
        raise EncodingError(f"the beginning of turn {i + 1} cannot be found in the model's chat template")
    return own


def _end(i: int, chat: Conversation, anchors: "Anchors", tokens: Tokens) -> int:
    """Where what the template writes for turn `i` ends."""
    if i + 1 == len(chat.messages):
        return len(chat.text)
    at = anchors.ends[i]
    rest = chat.text[at:]
    closing = anchors.tail(i + 1, False, anchors.places[i])
    if closing is not None:
        same = common(rest, closing)
        if same == len(closing):
            return at + same
        same = min(tokens.retreat(rest, same), tokens.retreat(closing, same))
        return at + same + tokens.another_end(rest[same:], closing[same:])
    following = min((other for other in anchors.ends.values() if other > at), default=len(chat.text))
    if tokens.end and tokens.end in chat.text[at:following]:
        return chat.text.index(tokens.end, at) + len(tokens.end)
    if anchors.places[i].part == "content":
        return at
    raise EncodingError(f"the end of turn {i + 1} cannot be found in the model's chat template")


class Anchors:
    """Where the last words of each turn stand in the whole.

    `ends`: turn -> position behind its last words, for the turns that the whole holds. `places`: the part of the turn
    that ends there. `starts`: turn -> position of its content's first words, where asked for. `unclear`: turns with a
    part that is written otherwise with a mark in it.
    """

    def __init__(self, chat: Conversation, turns: Sequence[int], starts: Sequence[int] = ()) -> None:
        self.chat = chat
        self.marks = Marks(chat.text)
        self.ends: dict[int, int] = {}
        self.places: dict[int, Place] = {}
        self.starts: dict[int, int] = {}
        self.unclear: set[int] = set()
        self._tails: dict[tuple[int, bool, Place], str | None] = {}
        parts = [place for i in turns for place in _places(i, chat.messages[i], i in starts)]
        for place, at in self._find(parts).items():
            if place.part == "start":
                self.starts[place.turn] = at
            elif at >= self.ends.get(place.turn, 0):
                self.ends[place.turn], self.places[place.turn] = at, place

    def _find(self, places: list[Place]) -> dict[Place, int]:
        """All at once; one by one where a mark changes what is written around it."""
        if not places:
            return {}
        (rendered,) = self.chat.render([(self.marks.put(self.chat.messages, places), False)])
        found = self.marks.read(rendered, places, self.chat.text)
        if found is not None:
            return found
        each = self.chat.render([(self.marks.put(self.chat.messages, [place]), False) for place in places])
        found = {}
        for place, rendered in zip(places, each, strict=True):
            alone = self.marks.read(rendered, [place], self.chat.text)
            if alone is None:
                self.unclear.add(place.turn)
            else:
                found |= alone
        return found

    def look_up(self, wanted: Iterable[tuple[int, bool, Place]]) -> None:
        """Renders what `tail` will be asked for, all at once."""
        new = [each for each in dict.fromkeys(wanted) if each not in self._tails]
        plain = self.chat.beginnings([(count, prompt) for count, prompt, _ in new])
        marked = self.chat.render(
            [(self.marks.put(self.chat.messages[:count], [place]), prompt) for count, prompt, place in new]
        )
        for each, text, with_mark in zip(new, plain, marked, strict=True):
            found = self.marks.read(with_mark, [each[2]], text) if text is not None else None
            self._tails[each] = text[found[each[2]] :] if found and text is not None else None

    def tail(self, count: int, prompt: bool, place: Place) -> str | None:
        """What a rendering of the first `count` messages has behind a place; None where it can't be had for certain."""
        if (count, prompt, place) not in self._tails:
            self.look_up([(count, prompt, place)])
        return self._tails[count, prompt, place]

    def before(self, i: int) -> Place | None:
        """The last place of the whole that stands before turn `i` and is of an earlier turn."""
        earlier = [(at, self.places[j]) for j, at in self.ends.items() if j < i and at < self.ends[i]]
        return max(earlier)[1] if earlier else None


class Marks:
    """Digits that occur nowhere in a text: 1, a number in other digits, 2. They survive JSON, upper and lower case.

    No two of them overlap, and none can arise where one stands beside other digits.
    """

    DIGITS = "03456789"

    def __init__(self, text: str) -> None:
        self.size = next(n for n in range(8, len(text) + 9) if not re.search(f"1[03-9]{{{n}}}2", text))
        self.pattern = re.compile(f"1([03-9]{{{self.size}}})2")

    def put(self, messages: Sequence[Message], places: Sequence[Place]) -> list[Message]:
        marked = list(messages)
        for number, place in enumerate(places):
            marked[place.turn] = _with_mark(marked[place.turn], place.part, self._mark(number))
        return marked

    def read(self, text: str | None, places: Sequence[Place], plain: str) -> dict[Place, int] | None:
        """Where in `plain` the marks stand that `text` has; None where `text` is not `plain` with marks in it."""
        if text is None or self.pattern.sub("", text) != plain:
            return None
        found = {}
        for n, match in enumerate(self.pattern.finditer(text)):
            number = int("".join(str(self.DIGITS.index(digit)) for digit in match[1]), 8)
            if number >= len(places):
                return None
            found[places[number]] = match.start() - n * (self.size + 2)
        return found

    def _mark(self, number: int) -> str:
        digits = "".join(self.DIGITS[int(digit)] for digit in f"{number:o}".rjust(self.size, "0"))
        return f"1{digits}2"


def _places(i: int, message: Message, start: bool) -> list[Place]:
    """Where marks can stand in a turn: where it has words."""
    places = []
    if content_text(message).strip():
        places += [Place(i, "start")] if start else []
        places.append(Place(i, "content"))
    if any(_is_words(message.get(name)) for name in REASONING):
        places.append(Place(i, "reasoning"))
    if _last_call(message) is not None:
        places.append(Place(i, "call"))
    return places


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _last_call(message: Message) -> dict[str, Any] | None:
    calls = message.get("tool_calls")
    call = calls[-1] if isinstance(calls, list) and calls else None
    inner = call.get("function", call) if isinstance(call, dict) else None
    return inner if isinstance(inner, dict) and isinstance(inner.get("name"), str) and inner["name"] else None


def _with_mark(message: Message, part: str, mark: str) -> Message:
    text = content_text(message)
    if part == "start":
        lead = len(text) - len(text.lstrip())
        return with_content(message, text[:lead] + mark + text[lead:])
    if part == "content":
        return with_content(message, _behind(text, mark))
    if part == "reasoning":
        return {**message, **{name: _behind(message[name], mark) for name in REASONING if _is_words(message.get(name))}}
    *others, last = message["tool_calls"]
    named = {**(_last_call(message) or {})}
    named["name"] += mark
    return {**message, "tool_calls": [*others, {**last, "function": named} if "function" in last else named]}


def _behind(text: str, mark: str) -> str:
    """The mark behind the last word: templates trim white space."""
    words = text.rstrip()
    return words + mark + text[len(words) :]
