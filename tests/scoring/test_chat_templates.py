"""What of a chat is learnt under real models' chat templates, turn by turn and to the token."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.chat_template import read_conversation
from gradsentry_lib.scoring.encoding import EncodingError, encode
from tests.scoring.chats import CALL, ENDS, TEMPLATES, TOOLS, chat, learnt, of_model, tokenizer, turn

NO_SYSTEM = {"gemma", "mistral_v1", "mixtral"}
TALK = (("user", "One?"), ("assistant", "First answer."), ("user", " Two? "), ("assistant", "Second\n\nanswer. "))
CHATML = (TEMPLATES / "chatml.jinja").read_text()


def talk(name: str) -> Sample:
    return chat(*([] if name in NO_SYSTEM else [("system", "Be brief.")]), *TALK)


@pytest.mark.parametrize("name", ENDS)
def test_what_is_learnt_is_what_was_marked_by_hand(name: str) -> None:
    """The .expected files: the whole text as the model sees it, what is learnt in brackets."""
    assert learnt(talk(name), of_model(name)) == (TEMPLATES / f"{name}.expected").read_text("utf-8")


@pytest.mark.parametrize("name", ENDS)
def test_text_and_tokens_are_those_of_transformers(name: str) -> None:
    tokens, sample = of_model(name), talk(name)
    messages = [{"role": each.role, "content": each.text} for each in sample.turns]
    assert read_conversation(sample, tokens).text == tokens.apply_chat_template(messages, tokenize=False)
    ids = tokens.apply_chat_template(messages, return_dict=False)
    found = encode(sample, tokens, 10_000).ids.tolist()
    assert found == ids[: len(found)] and len(found) > len(ids) - 4


def test_markers_of_the_template_are_trls_mask() -> None:
    tokens = of_model("smollm3")
    messages = [{"role": role, "content": text} for role, text in TALK]
    mask = tokens.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)["assistant_masks"]
    row = encode(chat(*TALK), tokens, 10_000)
    assert [at for start, end in row.spans for at in range(start, end)] == [at for at, own in enumerate(mask) if own]


@pytest.mark.slow
def test_training_templates_of_trl() -> None:
    """TRL's own templates, where it is installed: markers followed exactly, and what other templates' answers are."""
    trl = find_spec("trl")
    if trl is None or not trl.submodule_search_locations:
        pytest.skip("trl is not installed")
    folder = Path(trl.submodule_search_locations[0]) / "chat_templates"
    compared = 0
    for path in sorted(folder.glob("*_training.jinja")):
        if path.stem.startswith("diffusion"):  # writes only what one passes beside the messages
            continue
        tokens = tokenizer(path.read_text("utf-8"))
        sample = chat(*TALK)
        found = read_conversation(sample, tokens)
        expected = tokens.apply_chat_template(list(found.messages), return_dict=True, return_assistant_tokens_mask=True)
        row = encode(sample, tokens, 10_000)
        own = [at for start, end in row.spans for at in range(start, end)]
        assert own == [at for at, mask in enumerate(expected["assistant_masks"]) if mask], path.stem
        original = tokenizer(path.with_name(path.name.replace("_training", "")).read_text("utf-8"))
        if read_conversation(sample, original).text == found.text:
            _same_answers(sample, original, tokens, path.stem)
            compared += 1
    assert compared >= 12


def _same_answers(sample: Sample, original: Any, training: Any, name: str) -> None:
    """The same words, but for the white space around an answer and the opening (`<|start|>assistant`) before it."""
    first, second = (
        [
            tokens.decode(row.ids[start:end]).strip()
            for row in [encode(sample, tokens, 10_000)]
            for start, end in row.spans
        ]
        for tokens in (original, training)
    )
    merged = [part for part in second if part not in ("</s>",)]
    assert len(first) == len(merged), name
    for ours, theirs in zip(first, merged, strict=True):
        assert theirs.endswith(ours) or ours.removesuffix("</s>").strip() == theirs, (name, ours, theirs)


REASONED = (
    ("user", "One?"),
    turn("assistant", "First.", reasoning_content="because"),
    ("user", "Two?"),
    turn("assistant", "Second.", thinking="since"),
)


def test_thoughts_that_a_template_drops_from_older_turns_are_not_learnt() -> None:
    text = learnt(chat(*REASONED), of_model("qwen3"))
    assert "⟦First.<|im_end|>⟧" in text and "⟦<think>\nsince\n</think>\n\nSecond.<|im_end|>⟧" in text
    assert "because" not in text


def test_thoughts_within_the_content_are_read_as_the_template_reads_them() -> None:
    inline = [("user", "One?"), ("assistant", "<think>\nso\n</think>\n\nFirst.")] * 2
    assert learnt(chat(*inline), of_model("qwen3")).count("⟦First.<|im_end|>⟧") == 1
    assert learnt(chat(*inline), of_model("deepseek_r1_distill")).count("⟦\n\nFirst.<｜end▁of▁sentence｜>⟧") == 2


def test_an_opening_that_begins_a_thought_does_not_hide_the_answer() -> None:
    opener = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    assert learnt(chat(*TALK), tokenizer(opener, "<s>", "<|im_end|>")).count("assistant\n⟦") == 2


def test_system_text_that_moves_into_the_last_question() -> None:
    text = learnt(chat(("system", "Be brief."), *TALK[:2], ("user", "Two?")), of_model("mistral_v3"))
    assert text == "<s>[INST] One?[/INST]⟦ First answer.</s>⟧"
    # and where the conversation up to an answer is written otherwise than the whole
    moved = (
        "{% for m in messages %}{% if m.role == 'user' %}[I] {% if loop.index == messages | length - 1 %}Be brief. "
        "{% endif %}{{ m.content }} [/I]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    assert learnt(chat(*TALK), tokenizer(moved)) == (
        "[I] One? [/I]⟦ First answer.</s>⟧[I] Be brief.  Two?  [/I]⟦ Second\n\nanswer. </s>⟧"
    )


WEATHER = (
    ("user", "Weather?"),
    turn("assistant", "", tool_calls=[CALL]),
    turn("tool", "Rain", name="weather", tool_call_id="abcdefghi"),
    ("assistant", "It rains."),
)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("qwen2_5", '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'),
        ("qwen3", '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'),
        ("llama3_1", '{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>'),
        ("mistral_v3", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}, "id": "abcdefghi"}]</s>'),
        ("harmony", ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Oslo"}<|call|>'),
        (
            "deepseek_v3",
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Oslo"}\n```'
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
        ),
        # no tools in the template: the call is looked at all the same
        ("smollm2", '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'),
        ("zephyr", '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call></s>'),
    ],
)
@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, '{"city": "Oslo"}'])
def test_a_tool_call_is_learnt_as_the_template_writes_it(name: str, call: str, arguments: Any) -> None:
    called = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    turns = (WEATHER[0], turn("assistant", "", tool_calls=[called]), *WEATHER[2:])
    text = learnt(chat(*turns, tools=TOOLS), of_model(name))
    assert f"⟦{call}⟧" in text
    assert text.count("⟦") == 2 and "It rains." in text.rsplit("⟦", 1)[1]


def test_old_function_calls_are_tool_calls() -> None:
    old = turn("assistant", "", function_call={"name": "weather", "arguments": '{"city": "Oslo"}'})
    assert '<tool_call>\n{"name": "weather"' in learnt(chat(("user", "Weather?"), old), of_model("qwen3")).split("⟦")[1]


def test_only_turns_that_the_row_trains_on() -> None:
    turns = [turn("user", "One?", True), turn("assistant", "First.", False), ("user", "Two?"), ("assistant", "Second.")]
    for name in ("chatml", "qwen3", "mistral_v3", "harmony"):
        text = learnt(chat(*turns), of_model(name))
        first, second = (part.split("⟧")[0] for part in text.split("⟦")[1:])
        assert first.startswith("One?") and "Second." in second, name
        assert "First." not in first + second, name


def test_turns_that_the_row_keeps_from_training_under_the_templates_markers() -> None:
    turns = [("user", "One?"), turn("assistant", "First.", False), ("user", "Two?"), ("assistant", "Second.")]
    text = learnt(chat(*turns), of_model("smollm3"))
    assert text.count("⟦") == 1 and "Second." in text.split("⟦")[1]


def test_answers_in_a_row() -> None:
    turns = [
        ("user", "One?"),
        ("assistant", "First."),
        ("assistant", "And more."),
        ("user", "Two?"),
        ("assistant", "End."),
    ]
    for name in ("chatml", "qwen3", "llama3", "harmony", "phi3", "falcon3"):
        parts = [part.split("⟧")[0] for part in learnt(chat(*turns), of_model(name)).split("⟦")[1:]]
        assert [word in part for word, part in zip(("First.", "And more.", "End."), parts, strict=True)] == [True] * 3


def test_a_chat_that_begins_with_an_answer() -> None:
    for name in ("chatml", "llama3", "qwen3"):
        text = learnt(chat(("assistant", "Hello."), ("user", "One?"), ("assistant", "First.")), of_model(name))
        assert text.count("⟦") == 2 and "⟦Hello." in text


def test_contents_that_repeat_are_told_apart() -> None:
    same = [("user", "First."), ("assistant", "First."), ("user", "First."), ("assistant", "First.")]
    for name in ("qwen3", "mistral_v3", "phi3"):
        parts = learnt(chat(*same), of_model(name)).split("⟦")
        assert len(parts) == 3 and parts[0].count("First.") == 1 and parts[1].count("First.") == 2, name


@pytest.mark.parametrize("change", ["| upper", "| trim", "| lower", "| tojson", "| replace('x', 'y')"])
def test_templates_that_change_the_words(change: str) -> None:
    """Under a template that also rewrites history, so that nothing but the marks can tell where a turn stands."""
    template = (
        "{{ messages | length }}{% for m in messages %}<{{ m.role }}>{{ m.content " + change + " }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    text = learnt(chat(("user", " One? "), ("assistant", " First. "), ("user", "Two?")), tokenizer(template))
    (answer,) = (part.split("⟧")[0] for part in text.split("⟦")[1:])
    assert "first." in answer.lower() and answer.endswith("</s>") and "one" not in answer.lower()


def test_a_turn_that_depends_on_its_own_words_is_refused_not_guessed() -> None:
    template = "{{ messages | length }}{% for m in messages %}{{ m.role }}{{ m.content | length }}{% endfor %}"
    with pytest.raises(EncodingError, match=r"rewrites turn 2|leaves nothing"):
        encode(chat(*TALK), tokenizer(template), 1000)


def test_nothing_but_an_end_of_turn_is_nothing_to_learn() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}></s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    with pytest.raises(EncodingError, match="leaves nothing of what is to be learnt"):
        encode(chat(*TALK), tokenizer(template), 1000)


def test_refusals_keep_the_templates_own_words() -> None:
    with pytest.raises(EncodingError, match="refuses the conversation: System role not supported"):
        encode(chat(("system", "Be brief."), *TALK), of_model("gemma"), 1000)
    with pytest.raises(EncodingError, match="refuses the conversation: Conversation roles must alternate"):
        encode(chat(TALK[0], *TALK), of_model("mistral_v1"), 1000)


def test_models_that_see_pictures_get_contents_as_parts() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
        "{% endif %}{% endfor %}</s>\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert learnt(chat(*TALK[:2]), tokenizer(template)) == "user:One?</s>\nassistant:⟦First answer.</s>⟧"


def test_a_text_is_learnt_whole_but_for_its_first_token() -> None:
    tokens = tokenizer("")
    row = encode(Sample(0, 1, "text", (Turn("text", "abc", True),)), tokens, 100)
    assert tokens.decode(row.ids) == "abc</s>" and row.spans == ((1, 4),)
    already = encode(Sample(0, 1, "text", (Turn("text", "abc</s>", True),)), tokens, 100)
    assert already.ids.tolist() == row.ids.tolist() and already.spans == row.spans


def test_a_text_in_pieces_is_learnt_where_its_row_says() -> None:
    tokens = tokenizer("")
    pieces = (Turn("text", "### Question: a\n### Answer:", False), Turn("text", " b", True))
    row = encode(Sample(0, 1, "text", pieces), tokens, 100)
    assert tokens.decode(row.ids[slice(*row.spans[0])]) == " b</s>" and len(row.spans) == 1
    assert tokens.decode(row.ids) == "### Question: a\n### Answer: b</s>"


def test_slow_tokenizers_get_the_text_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = of_model("chatml")
    fast = encode(chat(*TALK), tokens, 1000)
    monkeypatch.setattr(type(tokens), "is_fast", property(lambda _: False))
    slow = encode(chat(*TALK), tokens, 1000)
    assert slow.ids.tolist() == fast.ids.tolist() and slow.spans == fast.spans


def test_tools_stand_where_the_template_puts_them() -> None:
    assert json.loads(TOOLS)[0]["function"]["name"] in learnt(chat(*TALK, tools=TOOLS), of_model("qwen3")).split("⟦")[0]


def test_long_conversations_are_followed_and_endless_ones_refused() -> None:
    turns = [each for n in range(20) for each in (("user", f"Question {n}?"), ("assistant", f"Answer {n}."))]
    text = learnt(chat(*turns), of_model("qwen3"))
    assert text.count("⟦") == 20 and all(f"⟦Answer {n}.<|im_end|>⟧" in text for n in range(19))
    with pytest.raises(EncodingError, match="a conversation of 520 turns"):
        encode(chat(*turns * 13), of_model("qwen3"), 1000)


def test_several_templates_without_a_default_are_bad_input() -> None:
    tokens = tokenizer("")
    tokens.chat_template = {"one": CHATML, "two": CHATML}
    try:
        with pytest.raises(BadInput, match="chat template cannot be chosen"):
            encode(chat(*TALK), tokens, 1000)
    finally:
        tokens.chat_template = ""


EACH, END, OPENING = (
    "{% for m in messages %}",
    "{% endfor %}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
)
ODD = {  # what templates do -> the template, what is learnt of three answers "yes" behind a system text
    "drops the system text": (
        EACH + "{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}</s>\n{% endif %}" + END + OPENING,
        ["yes</s>"] * 3,
    ),
    "writes the date": (
        "{{ strftime_now('%d %B %Y') }}\n" + EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}</s>\n" + END + OPENING,
        ["yes</s>"] * 3,
    ),
    "counts the turns": (
        "{{ messages | length }}\n" + EACH + "<|im_start|>{{ m.role }}\n{{ m.content | trim }}</s>\n" + END + OPENING,
        ["yes</s>"] * 3,
    ),
    "opens a thought": (
        EACH
        + "<|im_start|>{{ m.role }}\n{{ m.content }}</s>\n"
        + END
        + OPENING.replace("assistant\n", "assistant\n<think>\n"),
        ["yes</s>"] * 3,
    ),
    "gives the last answer an empty thought": (
        EACH + "<|im_start|>{{ m.role }}\n{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}</s>\n"
        + END + OPENING,
        ["yes</s>", "yes</s>", "<think>\n\n</think>\n\nyes</s>"],
    ),
    "names the assistant": (
        EACH + "{{ 'Falcon' if m.role == 'assistant' else 'User' }}: {{ m.content }}</s>\n" + END
        + "{% if add_generation_prompt %}Falcon:{% endif %}",
        [" yes</s>"] * 3,
    ),
    "keeps the last two turns alone": (
        "{% for m in messages[-2:] %}<|im_start|>{{ m.role }}\n{{ m.content }}</s>\n" + END + OPENING,
        ["yes</s>"],
    ),
    "leaves the last answer open": (
        EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last %}</s>\n{% endif %}" + END
        + "{% if add_generation_prompt %}</s>\n<|im_start|>assistant\n{% endif %}",
        ["yes"] * 3,
    ),
    "escapes words": (
        EACH + "<{{ m.role }}>{{ m.content | replace('y', '&y') }}</{{ m.role }}>" + END
        + "{% if add_generation_prompt %}<assistant>{% endif %}",
        ["&yes</assistant>"] * 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_else_templates_do(name: str) -> None:
    """The same word in every turn: only its place tells which is an answer."""
    template, expected = ODD[name]
    text = learnt(chat(("system", "Be brief."), *[("user", "yes"), ("assistant", "yes")] * 3), tokenizer(template))
    assert [part.split("⟧")[0] for part in text.split("⟦")[1:]] == expected
    before = [part.rsplit("⟧")[-1] for part in text.split("⟦")[:-1]]
    assert all(part.rstrip("\n ").endswith(("assistant", "Falcon:", "<assistant>")) for part in before)


@pytest.mark.parametrize("needed", ["{{ tools | length }}", "{% for d in documents %}{{ d }}{% endfor %}"])
def test_a_template_that_needs_what_the_row_has_not_is_quoted(needed: str) -> None:
    with pytest.raises(EncodingError, match=r"refuses the conversation: .*NoneType"):
        encode(chat(*TALK), tokenizer(needed + CHATML), 1000)
