"""Rows laid end to end: each gets the states that it gets alone from a model nobody touched."""

from typing import Any

import numpy as np
import pytest
import torch

from gradsentry_lib.scoring.forward import is_packed, run_body, use_packed_attention
from gradsentry_lib.scoring.head import body_name
from gradsentry_lib.scoring.kv_cache import EMPTY
from gradsentry_lib.scoring.packed_attention import run_packed

from .architectures import CONFIGS, VOCAB, tiny

# A window shorter than the rows tried, soft-capping, a bias that is not in the keys, no attention at all: padded.
STATES = {
    "mamba",
    "mamba2",
    "falcon-mamba",
    "rwkv",
    "jamba",
    "bamba",
    "falcon-h1",
    "recurrent-gemma",
    "qwen3-next",
    "lfm2",
}
PADDED = STATES | {"mistral-sliding", "gemma2", "gemma3", "gpt-j", "bloom", "falcon", "falcon-alibi", "mpt", "gpt-oss"}
STRIPS = sorted(set(CONFIGS) - PADDED)


def body_of(name: str) -> Any:
    model = tiny(name)
    return getattr(model, body_name(model))


def rows(*lengths: int) -> list[np.ndarray]:
    generator = np.random.default_rng(5)
    return [generator.integers(0, VOCAB, length) for length in lengths]


def alone(body: Any, ids: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return body(input_ids=torch.from_numpy(ids)[None], use_cache=False).last_hidden_state[0]


def test_which_architectures_are_packed() -> None:
    bodies = {name: body_of(name) for name in CONFIGS}
    for body in bodies.values():
        use_packed_attention(body)
    assert {name for name, body in bodies.items() if not is_packed(body)} == PADDED


@pytest.mark.parametrize("name", STRIPS)
@torch.no_grad()
def test_states_are_those_of_a_row_alone(name: str) -> None:
    body, untouched = body_of(name), body_of(name)
    use_packed_attention(body)
    given = rows(30, 1, 7, 30, 55, 29, 2)
    found, _ = run_packed(body, given, [EMPTY] * len(given), False)
    expected = torch.cat([alone(untouched, ids) for ids in given])
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", STRIPS)
@torch.no_grad()
def test_pasts_of_unequal_length_on_pasts(name: str) -> None:
    """Three steps, each on the caches of the one before; some rows have none."""
    body, untouched = body_of(name), body_of(name)
    use_packed_attention(body)
    whole = rows(40, 33, 25, 40)
    first, second = (5, 0, 9, 11), (12, 8, 10, 25)  # where the second and the third step begin
    begun = [i for i, cut in enumerate(first) if cut]
    _, made = run_packed(body, [whole[i][: first[i]] for i in begun], [EMPTY] * len(begun), True)
    caches = [made[begun.index(i)] if i in begun else EMPTY for i in range(4)]
    _, caches = run_packed(body, [ids[a:b] for ids, a, b in zip(whole, first, second, strict=True)], caches, True)
    assert [past.length for past in caches] == list(second)
    found, _ = run_packed(body, [ids[b:] for ids, b in zip(whole, second, strict=True)], caches, False)
    expected = torch.cat([alone(untouched, ids)[b:] for ids, b in zip(whole, second, strict=True)])
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("padding", ["left", "right"])
@torch.no_grad()
def test_the_model_answers_others_as_before(padding: str) -> None:
    """A padded batch with its mask, as training and generation send it, is none of the packed rows' business."""
    model, untouched = tiny("llama"), tiny("llama")
    use_packed_attention(model.model)
    ids, mask = torch.from_numpy(np.stack(rows(12, 12))), torch.ones(2, 12, dtype=torch.long)
    mask[1, slice(None, 5) if padding == "left" else slice(7, None)] = 0
    assert torch.equal(model(ids, attention_mask=mask).logits, untouched(ids, attention_mask=mask).logits)
    written = [m.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False) for m in (model, untouched)]
    assert torch.equal(*written)


@torch.no_grad()
def test_rows_beyond_the_window_are_padded() -> None:
    body, untouched = body_of("mistral-wide"), body_of("mistral-wide")
    use_packed_attention(body)
    for lengths in ((64, 20), (90, 20)):  # the window is 64
        given = rows(*lengths)
        found, _ = run_body(body, given)
        expected = torch.cat([alone(untouched, ids) for ids in given])
        assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_another_attention_is_left_alone() -> None:
    body = body_of("llama")
    body.set_attn_implementation("eager")
    use_packed_attention(body)
    assert body.config._attn_implementation == "eager"
