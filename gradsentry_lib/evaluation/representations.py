"""What the peers look at: hidden states and low-frequency gradients, one vector a sample."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.fft import dct

from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.encoding import Encoded, encode
from gradsentry_lib.scoring.model import ScoringModel

Progress = Callable[[int], None]
BATCH_TOKENS = 2048


def last_states(
    samples: Sequence[Sample],
    model: ScoringModel,
    body: torch.nn.Module | None = None,
    on_progress: Progress | None = None,
) -> np.ndarray:
    """(N, D) float32: the last layer's hidden state at the last token of the response (the one before eos).

    `body`: another transformer to run instead of the model's own, say a tuned one.
    """
    result: np.ndarray | None = None
    for members, encoded, hidden in passes(samples, model, body):
        for line, i in enumerate(members):
            start, end = encoded[i].spans[-1]
            at = max(start, end - 2)
            vector = hidden[line, at].float().cpu().numpy()
            result = np.empty((len(samples), vector.size), dtype=np.float32) if result is None else result
            result[i] = vector
        if on_progress is not None:
            on_progress(len(members))
    return result if result is not None else np.empty((0, 0), dtype=np.float32)


def low_frequency_gradients(
    samples: Sequence[Sample], model: ScoringModel, crop: int = 8, on_progress: Progress | None = None
) -> np.ndarray:
    """(N, (V // crop) * (D // crop)) float32: GraCeFul's features, the low-frequency corner of the 2-D DCT of lm_head's
    gradient, flattened.

    The DCT is linear and works on rows and columns apart, so with G = E^T H / T it is (E C_V)^T (H C_D) / T: the
    transform of the T error rows and of the T hidden rows, cropped before they are multiplied. No V x D matrix is made,
    and nothing is lost against transforming the whole gradient.
    """
    rows, columns = model.head.vocab // crop, model.head.width // crop
    result = np.empty((len(samples), rows * columns), dtype=np.float32)
    for members, encoded, hidden in passes(samples, model):
        for line, i in enumerate(members):
            at = np.concatenate([np.arange(start, end) for start, end in encoded[i].spans])
            states = hidden[line, torch.from_numpy(at - 1).to(hidden.device)]
            errors, _ = model.head.errors(states, torch.from_numpy(encoded[i].ids[at]).to(hidden.device))
            left = dct(errors.float().cpu().numpy(), axis=1)[:, :rows]
            right = dct(states.float().cpu().numpy(), axis=1)[:, :columns]
            result[i] = (left.T @ right / len(at)).ravel()
        if on_progress is not None:
            on_progress(len(members))
    return result


def activation_gradients(
    samples: Sequence[Sample], model: ScoringModel, on_progress: Progress | None = None
) -> np.ndarray:
    """(layers - 1, N, D) float32: the gradient of the response tokens' own logits, summed, by what each layer gives the
    next, mean over the row's positions."""
    encoded = [encode(sample, model.tokenizer, model.context) for sample in samples]
    embed, result = model.model.get_input_embeddings(), None
    for members in _packs(encoded, BATCH_TOKENS // 4):  # every layer's output is held
        ids = _padded(members, encoded, model)
        with torch.enable_grad():
            given = embed(ids).detach().requires_grad_()
            layers = model.body(inputs_embeds=given, use_cache=False, output_hidden_states=True).hidden_states
            logits = torch.zeros((), device=model.device)
            for line, i in enumerate(members):
                for start, end in encoded[i].spans:
                    said = model.head.weight[ids[line, start:end]].float()  # (T, D)
                    logits = logits + (layers[-1][line, start - 1 : end - 1].float() * said).sum()
            found = torch.autograd.grad(logits, layers[1:-1])
        result = np.empty((len(found), len(samples), found[0].shape[-1]), np.float32) if result is None else result
        for line, i in enumerate(members):
            for at, gradient in enumerate(found):
                result[at, i] = gradient[line].float().sum(0).cpu().numpy() / len(encoded[i].ids)
        if on_progress is not None:
            on_progress(len(members))
    return result if result is not None else np.empty((0, 0, 0), np.float32)


def question_log_likelihoods(texts: Sequence[str], model: ScoringModel, limit: int = 256) -> np.ndarray:
    """(n,) mean log-likelihood a token of plain texts (ONION's -log perplexity), batched."""
    tokenizer = model.tokenizer
    first = [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id]
    encoded = []
    for text in texts:
        ids = np.asarray(first + tokenizer.encode(text, add_special_tokens=False)[:limit], dtype=np.int64)
        encoded.append(Encoded(ids, ((1, max(2, len(ids))),), False))
    result = np.zeros(len(texts))
    for members in _packs(encoded):
        hidden = _run(members, encoded, model, model.body)
        for line, i in enumerate(members):
            if len(encoded[i].ids) > 1:
                _, nll = model.head.errors(
                    hidden[line, : len(encoded[i].ids) - 1], torch.from_numpy(encoded[i].ids[1:]).to(hidden.device)
                )
                result[i] = -float(nll.mean())
    return result


@torch.no_grad()
def passes(
    samples: Sequence[Sample], model: ScoringModel, body: torch.nn.Module | None = None
) -> Iterator[tuple[list[int], list[Encoded], torch.Tensor]]:
    """(positions, all encodings, hidden states (B, L, D)) pass by pass, short samples first."""
    encoded = [encode(sample, model.tokenizer, model.context) for sample in samples]
    for members in _packs(encoded):
        yield members, encoded, _run(members, encoded, model, body or model.body)


def _packs(encoded: Sequence[Encoded], tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    pack: list[int] = []
    for i in sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids)):
        if pack and (len(pack) + 1) * len(encoded[i].ids) > tokens:
            yield pack
            pack = []
        pack.append(i)
    if pack:
        yield pack


@torch.no_grad()
def _run(members: list[int], encoded: Sequence[Encoded], model: ScoringModel, body: torch.nn.Module) -> torch.Tensor:
    return body(input_ids=_padded(members, encoded, model), use_cache=False).last_hidden_state


def _padded(members: list[int], encoded: Sequence[Encoded], model: ScoringModel) -> torch.Tensor:
    """(B, L) ids, padded on the right: causal attention never looks there."""
    length = max(len(encoded[i].ids) for i in members)
    ids = np.zeros((len(members), length), dtype=np.int64)
    for line, i in enumerate(members):
        ids[line, : len(encoded[i].ids)] = encoded[i].ids
    return torch.from_numpy(ids).to(model.device)
