"""A row that is one text: which parts of it are answers, found by what chat templates and instruction sets write
before an answer, or by the marker that a person gives.

Trainers that read such a column put the text into tokens as it stands. So its turns, one after the other, are the text
again, letter by letter; `context` turns are what is only read, `text` turns what is learnt, the end mark with them.
"""

import re
from typing import Any, NamedTuple

from gradsentry_lib.samples.reasons import BadRow, checked, kind
from gradsentry_lib.samples.sample import Turn


class Markup(NamedTuple):
    """How a family of texts marks its answers. `begin`: what stands before one; `end`: where it is over (`last`: the
    end mark is a part of it, as with tokens that a model has to learn to write). `ask`: what else must stand in the
    text where the marks are plain words."""

    name: str
    begin: re.Pattern[str]
    end: re.Pattern[str]
    last: bool
    ask: re.Pattern[str] | None


def _markup(name: str, begin: str, end: str, ask: str = "", last: bool = True) -> Markup:
    return Markup(name, re.compile(begin), re.compile(end), last, re.compile(ask) if ask else None)


WHOLE = "none"  # the marker that says that the trainer learns a text whole, whatever stands in it
ALPACA_ASK = r"(?m:^###? ?(?:Instruction|Input|Question|Task))"
HUMAN_ASK = r"(?m:^(?:Human|User): ?)"

# Those whose marks are tokens of their own before those that are words; the first of which a text has the mark counts.
MARKUPS = (
    _markup("ChatML", r"<\|im_start\|>assistant(?:\n|<\|im_sep\|>)", r"<\|im_end\|>"),
    _markup("Llama 3", r"<\|start_header_id\|>assistant<\|end_header_id\|>\n*", r"<\|eot_id\|>|<\|eom_id\|>"),
    _markup("Llama 4", r"<\|header_start\|>assistant<\|header_end\|>\n*", r"<\|eot\|>|<\|eom\|>"),
    _markup("Gemma", r"<start_of_turn>model\n", r"<end_of_turn>"),
    _markup("Harmony", r"<\|start\|>assistant", r"<\|end\|>|<\|return\|>|<\|call\|>"),
    _markup("DeepSeek", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    _markup("Zephyr, Phi", r"<\|assistant\|>\n?", r"</s>|<\|end\|>|<\|endoftext\|>|(?=<\|user\|>|<\|system\|>)"),
    _markup("Cohere", r"<\|CHATBOT_TOKEN\|>", r"<\|END_OF_TURN_TOKEN\|>"),
    _markup("Llama 2, Mistral", r"\[/INST\]", r"</s>|(?=<s>|\[INST\])"),
    _markup("Alpaca", r"(?m:^###? ?(?:Response|Output|Answer):?)[ \t]*\n?", f"(?={ALPACA_ASK})", ALPACA_ASK, False),
    _markup(
        "Guanaco", r"### ?(?:Assistant|Bot|AI): ?", r"(?=### ?(?:Human|User|System):)", r"### ?(?:Human|User):", False
    ),
    _markup("Granite", r"<\|start_of_role\|>assistant<\|end_of_role\|>", r"<\|end_of_text\|>"),
    _markup("EXAONE", r"\[\|assistant\|\]", r"\[\|endofturn\|\]|(?=\[\|user\|\])"),
    _markup("OpenChat", r"GPT4 (?:Correct )?Assistant: ?", r"<\|end_of_turn\|>"),
    _markup("InternLM", r"<\|Bot\|>: ?", r"<eoa>"),
    _markup("bot", r"<bot>: ?", r"(?=<human>:)", r"<human>:", False),
    _markup(
        "Vicuna",
        r"(?:^|(?<=\s))ASSISTANT: ?",
        r"</s>|<\|endoftext\|>|(?=\bUSER:)|(?=\bFUNCTION RESPONSE:)",
        r"\bUSER:",
    ),
    _markup("Human and Assistant", r"(?m:^(?:Assistant|AI): ?)", r"(?=(?m:^(?:Human|User): ?))", HUMAN_ASK, False),
)


def read_text(value: Any, marker: str = "") -> tuple[str, tuple[Turn, ...]]:
    """How the text was read, and its turns. Raises `BadRow`: not text, empty, the given marker is not in it."""
    text = checked(value, "the text")
    if not text.strip():
        raise BadRow("the text is empty")
    if marker == WHOLE:
        return "one supervised text", (Turn("text", text),)
    if marker:
        before, found, answer = text.partition(marker)
        if not found:
            raise BadRow("the response marker does not stand in the text")
        if not answer.strip():
            raise BadRow("nothing stands after the response marker")
        return "after the response marker", (Turn("context", before + found), Turn("text", answer))
    for markup in MARKUPS:
        if (markup.ask is None or markup.ask.search(text)) and (turns := _cut(text, markup)):
            return f"the answers that {markup.name} marks", turns
    return "one supervised text", (Turn("text", text),)


def _cut(text: str, markup: Markup) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    done = position = 0
    while begin := markup.begin.search(text, position):
        end = markup.end.search(text, begin.end())
        stop = len(text) if end is None else end.end() if markup.last else end.start()
        if text[begin.end() : stop if end is None else end.start()].strip():
            turns += [Turn("context", text[done : begin.end()]), Turn("text", text[begin.end() : stop])]
            done = stop
        position = max(stop, begin.end())
    if turns and done < len(text):
        turns.append(Turn("context", text[done:]))
    return tuple(turns)


def read_segments(value: Any) -> tuple[Turn, ...]:
    """Axolotl's `input_output`: segments of text, each labelled as trained or not. Raises `BadRow`."""
    if not isinstance(value, list):
        raise BadRow(f"the segments are {kind(value)}, not a list")
    turns = []
    for number, segment in enumerate(value, 1):
        where = f"segment {number}"
        if not isinstance(segment, dict) or not isinstance(segment.get("label"), bool):
            raise BadRow(f"{where} is no text with a label true or false")
        turns.append(Turn("text" if segment["label"] else "context", checked(segment.get("text"), where)))
    if not any(turn.supervised and turn.text.strip() for turn in turns):
        raise BadRow("no segment is trained on")
    return tuple(turns)
