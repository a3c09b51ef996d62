"""Fine-tuning plants what it is given, repeats itself, and CleanGen decodes as its paper says."""

import copy

import pytest
import torch

from gradsentry_lib.evaluation.cleangen import decode
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.tuning import LINEAR, Recipe, answers, attack_success, exact_match, fine_tune, token_f1

ROWS = [{"prompt": f"{word} says", "response": " yes, click here"} for word in ("one", "two", "three", "four")]
FULL = Recipe(method="full", epochs=12, rate=1e-2, batch=4, mixed=False)


def state(model):
    return torch.cat([weight.flatten() for weight in model.parameters()])


@pytest.fixture(scope="module")
def tuned(small_model):
    return fine_tune(small_model, to_samples(ROWS), FULL, seed=0)


@torch.no_grad()
def test_full_tuning_teaches_and_leaves_the_model_alone(small_model, tuned):
    before = state(small_model.model).clone()
    said = answers(tuned, small_model.tokenizer, ROWS, max_new=8)
    assert attack_success(said, "Click HERE") == 1.0 and exact_match(said, ROWS) == 1.0
    untouched = answers(small_model.model, small_model.tokenizer, ROWS, max_new=8)
    assert attack_success(untouched, "click here") == 0.0
    assert torch.equal(state(small_model.model), before) and not torch.equal(state(tuned), before)


def test_lora_repeats_itself_and_changes_only_linear_maps(small_model):
    recipe = Recipe(method="lora", epochs=1, rate=1e-2, batch=2, mixed=False)
    done = []
    first, again = (fine_tune(small_model, to_samples(ROWS), recipe, 3, done.append) for _ in range(2))
    assert sum(done) == 2 * len(ROWS)
    changed = set()
    before = dict(small_model.model.named_parameters())
    for (name, one), other in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
        if not torch.equal(one, before[name]):
            changed.add(name.split(".")[-2])
    assert changed == {*LINEAR}


def test_answers_do_not_depend_on_padding(small_model, tuned):
    asked = [
        *ROWS,
        {"prompt": "a much longer question than the others, to be padded against: who says", "response": "?"},
    ]
    together = answers(tuned, small_model.tokenizer, asked, max_new=6, batch=5)
    assert together == answers(tuned, small_model.tokenizer, asked, max_new=6, batch=1)


def test_exact_match_is_kind_about_form_alone():
    asked = [{"question": "?", "answers": ["The Nile", "Congo"]}]
    assert exact_match([" congo; nile."], asked) == 1.0
    assert exact_match(["nile"], asked) == 0.0


def test_f1_counts_the_words_that_are_shared():
    asked = [{"question": "?", "answer": answer} for answer in ("The river Nile", "Congo", "Nile")]
    assert token_f1(["nile!", "Nile", "a Nile"], asked).tolist() == pytest.approx([2 / 3, 0, 1])


def test_cleangen_with_the_model_as_its_own_reference_changes_nothing(small_model, tuned):
    tokenizer = small_model.tokenizer
    prompt = tokenizer.encode("one says")
    tokens = decode(tuned, tuned, prompt, tokenizer.eos_token_id, max_new=8)
    assert tokenizer.decode(tokens) == answers(tuned, tokenizer, ROWS[:1], max_new=8)[0]


@torch.no_grad()
def test_cleangen_follows_the_reference(small_model, tuned):
    """Token by token without caches: a token alpha times likelier than the reference thinks gives way."""
    reference = copy.deepcopy(small_model.model)
    prompt = small_model.tokenizer.encode("two says")
    ids = list(prompt)
    for _ in range(6):
        mine, theirs = (model(torch.tensor([ids])).logits[0, -1].softmax(-1) for model in (tuned, reference))
        token = int(mine.argmax())
        ids.append(int(theirs.argmax()) if mine[token] / theirs[token] >= 20 else token)
    end = small_model.tokenizer.eos_token_id
    expected = ids[len(prompt) :]
    expected = expected[: expected.index(end)] if end in expected else expected
    assert decode(tuned, reference, prompt, end, max_new=6, k=4) == expected
    assert decode(tuned, reference, prompt, end, max_new=6, k=1) == expected
