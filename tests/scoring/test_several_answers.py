"""Rows of several sequences: each answer is scored behind the prompt, and the row's score is made of all."""

from typing import Any

import numpy as np
import pytest

from gradsentry_lib.samples.row_format import read_row
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.samples.units import conversations
from gradsentry_lib.scoring.config import Effort
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.model import wrap
from gradsentry_lib.scoring.scorer import score_samples
from gradsentry_lib.windows import unpack

from .architectures import tiny
from .test_scorer import IDENTITY, samples

PROMPT, GOOD, BAD = "Where is the river, please?", "In the north, behind the hill.", "zz qq xx " * 9


def plain(answer: str) -> Sample:
    return Sample(0, 1, "prompt", (Turn("prompt", PROMPT), Turn("response", answer)))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "chosen": GOOD, "rejected": BAD},
        {"prompt": PROMPT, "responses": [GOOD, BAD]},
    ],
)
def test_both_answers_are_scored_as_if_alone(row: dict[str, Any], tiny_tokenizer: Any) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    pair = read_row(row).sample
    good, bad = score_samples([plain(GOOD), plain(BAD)], model)
    told: list[int] = []
    found = score_samples([*samples(3), pair, *samples(2)], model, on_progress=told.append)
    assert sum(told) == 6
    score = found[3]
    assert score.sample_id == pair.sample_id
    assert score.turn_entropies == pytest.approx((good.entropy, bad.entropy), abs=1e-5)
    assert score.entropy == max(score.turn_entropies)
    assert score.supervised_tokens == good.supervised_tokens + bad.supervised_tokens
    expected = good.nll * good.supervised_tokens + bad.nll * bad.supervised_tokens
    assert score.nll * score.supervised_tokens == pytest.approx(expected, rel=1e-5)
    records, _, tokens = unpack([score.sketch])
    alone = unpack([good.sketch, bad.sketch])
    assert tokens[0] == sum(alone[2])
    starts = [*alone[0]["start"][alone[1] == 0], *(alone[0]["start"][alone[1] == 1] + alone[2][0])]
    assert records["start"].tolist() == [int(start) for start in starts]
    assert np.array_equal(records["length"], alone[0]["length"])


def test_swapping_a_pair_changes_neither_its_tokens_nor_its_entropy(tiny_tokenizer: Any) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    rows = [{"prompt": PROMPT, "chosen": a, "rejected": b} for a, b in ((GOOD, BAD), (BAD, GOOD))]
    first, second = score_samples([read_row(row).sample for row in rows], model)
    assert first.entropy == pytest.approx(second.entropy, abs=1e-5)
    assert first.sample_id != second.sample_id


def test_a_pair_of_which_one_answer_fails_is_unscored(tiny_tokenizer: Any) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    pair = read_row({"prompt": PROMPT, "chosen": GOOD, "rejected": BAD * 20}).sample
    (score,) = score_samples([pair], model, effort=Effort(token_budget=64))
    assert not score.failure  # long, but it fits alone
    broken = Sample(0, 1, "prompt", (Turn("prompt", PROMPT), Turn("response", ""), Turn("rejected", BAD)))
    tiny_without_end = wrap(tiny("llama"), _NoEnd(tiny_tokenizer), IDENTITY)
    (score,) = score_samples([broken, *samples(1)], tiny_without_end)[:1]
    assert score.failure and np.isnan(score.entropy)


class _NoEnd:
    """A tokenizer without an end of sequence: an empty answer has no tokens then."""

    eos_token_id = None

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_an_empty_rejected_answer_is_no_sequence() -> None:
    assert len(conversations(read_row({"prompt": "p", "chosen": "c", "rejected": ""}).sample)) == 1


def test_a_system_text_and_a_passage_stand_before_the_prompt(tiny_tokenizer: Any) -> None:
    sample = read_row({"system_prompt": "S", "context": "C", "question": "Q", "answer": "A"}).sample
    encoded = encode(sample, tiny_tokenizer, 512)
    ((start, end),) = encoded.spans
    assert tiny_tokenizer.decode(encoded.ids[:start]) == "S\n\nC\n\nQ"
    assert tiny_tokenizer.decode(encoded.ids[start : end - 1]) == "A"
    alpaca = encode(read_row({"system": "S", "instruction": "I", "output": "A"}).sample, tiny_tokenizer, 512)
    assert tiny_tokenizer.decode(alpaca.ids[: alpaca.spans[0][0]]) == "S\n\n### Instruction:\nI\n\n### Response:\n"


def test_a_text_is_learnt_where_it_is_marked(tiny_tokenizer: Any) -> None:
    text = "### Human: Hi ### Assistant: Yo ### Human: And ### Assistant: No"
    encoded = encode(read_row({"text": text}).sample, tiny_tokenizer, 512)
    learnt = [tiny_tokenizer.decode(encoded.ids[start:end]) for start, end in encoded.spans]
    assert learnt == ["Yo ", "No</s>"]
    whole = encode(read_row({"text": "abc"}).sample, tiny_tokenizer, 512)
    assert whole.spans[0][0] >= 1 and tiny_tokenizer.decode(whole.ids[slice(*whole.spans[0])]).endswith("bc</s>")
