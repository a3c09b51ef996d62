"""What the scorer says of one sample."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """All signals of one sample, from one forward pass.

    `entropy`: normalised spectral entropy in [0, 1], the largest over the sample's supervised spans; NaN if unscored.
    `turn_entropies`: one a span (one for prompt/response and Alpaca rows, one an assistant turn for chats).
    `supervised_tokens`: over all spans, eos included. `nll`: mean negative log-likelihood over them, nats a token.
    `sketch`: the span sketches (scoring/sketch.py), empty where none was asked for.
    `failure`: why there is no score; empty where there is one.
    `turn_tokens`, `turn_nll`: of each span, as `supervised_tokens` and `nll` are of all.
    `control_tokens`: which ones the row's own text holds, and where (scoring/control_tokens.py); empty where none.
    """

    sample_id: str
    entropy: float
    turn_entropies: tuple[float, ...]
    supervised_tokens: int
    nll: float
    truncated: bool
    sketch: bytes = b""
    failure: str = ""
    control_tokens: str = ""
    turn_tokens: tuple[int, ...] = ()
    turn_nll: tuple[float, ...] = ()
