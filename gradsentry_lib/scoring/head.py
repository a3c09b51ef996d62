"""The output projection z = W h, and the error rows dL/dz that turn hidden states into gradients.

For one sample the gradient of the mean loss with respect to W (V x D) is G = (1/T) sum_t e_t h_t^T, with e_t the
derivative of token t's loss by W h_t (paper, section 3.2). Where the logits are W h itself, e = softmax(z) - onehot.
Some architectures put more between W h and the loss: a bias (Phi, GPT-J), soft-capping (Gemma 2), a scale (Granite,
Cohere). That tail is never assumed: the model's own forward is run on given hidden states, with its body replaced by a
stub, and differentiated.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradsentry_lib.errors import UnusableModel


@dataclass(frozen=True)
class OutputProjection:
    """A model's last linear map. `weight`: (V, D); `plain`: nothing follows W h (+ bias)."""

    weight: Tensor
    bias: Tensor | None
    plain: bool
    shell: Any  # the model, with a stub where its body was
    projection: Any

    @property
    def vocab(self) -> int:
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        return self.weight.shape[1]

    def errors(self, hidden: Tensor, targets: Tensor, columns: int | None = None) -> tuple[Tensor, Tensor]:
        """Error rows dL/d(W h) of the token losses, and the losses.

        hidden: (n, D); targets: (n,) int64; columns: how many of the V columns are wanted, None for all.
        Returns errors (n, columns) and negative log-likelihoods (n,), both float32 (float64 for a float64 model).
        """
        columns = columns or self.vocab
        if not self.plain:
            errors, nll = self._errors_through_tail(hidden, targets)
            return errors[:, :columns], nll
        exact = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        logits = self._logits(hidden.to(self.weight.dtype)).to(exact)
        # Softmax in place: at V columns a row, every copy of the logits would cost as much as the product itself.
        logits.sub_(logits.amax(-1, keepdim=True))
        own = logits.gather(1, targets[:, None])  # (n, 1)
        total = logits.exp_().sum(-1, keepdim=True)
        errors = logits[:, :columns].div_(total)
        wanted = (targets < columns).to(exact)  # counted, not looked for: a GPU would have to wait for what is found
        errors.scatter_add_(1, targets.clamp_max(columns - 1)[:, None], -wanted[:, None])
        return errors, (total.log() - own).squeeze(1)

    def _logits(self, hidden: Tensor) -> Tensor:
        """W h + bias of (n, D) states: (n, V)."""
        if self.weight.device.type != "cpu" or self.weight.dtype != torch.float32 or self.bias is not None:
            return nn.functional.linear(hidden, self.weight, self.bias)
        # In float32 a CPU is a fifth faster with a token a column, if their number is a multiple of eight.
        count = len(hidden)
        return (self.weight @ nn.functional.pad(hidden, (0, 0, 0, -count % 8)).mT).mT[:count]

    def _errors_through_tail(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            product, logits = _run_head(self.shell, self.projection, hidden)
            losses = nn.functional.cross_entropy(logits.to(product.dtype), targets, reduction="none")
            (errors,) = torch.autograd.grad(losses.sum(), product)
        return errors[0], losses.detach()


class _GivenBody(nn.Module):
    """Stands where a model's body stood and answers, in the body's own kind of output, with given hidden states."""

    hidden: Tensor | None = None

    def __init__(self, kind: type, body: nn.Module) -> None:
        super().__init__()
        self.kind = kind
        self.stands_for = (body,)  # in a tuple: no submodule, its weights are not the stub's

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # a model's forward may read its body's settings, as Falcon-H1's does
            return getattr(self.stands_for[0], name)

    @property
    def decoder(self) -> "_GivenBody":  # OPT calls model.decoder rather than model
        return self

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.kind(last_hidden_state=self.hidden)


def _run_head(shell: Any, projection: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """W h as a leaf to differentiate by (1, n, V), and the logits (n, V), of hidden states (n, D)."""
    body = getattr(shell, body_name(shell))
    caught: list[Tensor] = []

    def catch(module: nn.Module, _: Any, product: Tensor) -> Tensor:
        leaf = product.detach()
        leaf = leaf if leaf.dtype == torch.float64 else leaf.float()
        caught.append(leaf.requires_grad_())
        return caught[0]

    body.hidden = hidden[None].to(projection.weight.dtype)
    hook = projection.register_forward_hook(catch)
    try:
        logits = shell(input_ids=torch.zeros(1, hidden.shape[0], dtype=torch.long, device=hidden.device)).logits[0]
    finally:
        hook.remove()
        body.hidden = None
    if len(caught) != 1:
        raise UnusableModel("the model's forward does not call its output projection exactly once")
    return caught[0], logits


def _shell(model: Any, kind: type) -> Any:
    """The model with a stub in its body's place; shares every other module, and changes nothing of the original."""
    shell = copy.copy(model)
    for own in ("forward", "_hf_hook", "_old_forward"):  # accelerate's, bound to the original and its body
        shell.__dict__.pop(own, None)
    shell._modules = dict(model._modules)
    name = body_name(model)
    shell._modules[name] = _GivenBody(kind, model._modules[name])
    shell.config = copy.copy(model.config)
    if hasattr(shell.config, "output_router_logits"):
        shell.config.output_router_logits = False  # the stub has no routers to report on
    return shell


def body_name(model: Any) -> str:
    """The attribute that holds the transformer without its head; empty where there is none to recognise."""
    names = (getattr(model, "base_model_prefix", ""), "model", "transformer", "backbone")
    return next((name for name in names if name and isinstance(getattr(model, name, None), nn.Module)), "")


@torch.no_grad()
def find_output_projection(model: Any) -> OutputProjection:
    """The output projection of a causal language model, checked against the model's own logits.

    Raises BadInput where there is none to recognise: no output embedding, a weight that is not vocabulary x width, a
    forward that does not end in projection(last hidden state), or one in which a token sees what comes after it.
    """
    name = type(model).__name__
    projection: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    weight = getattr(projection, "weight", None)
    body = getattr(model, body_name(model) or "-", None)
    if weight is None or weight.dim() != 2 or not isinstance(body, nn.Module):
        raise UnusableModel(f"{name} has no output projection that GradSentry recognises; use a causal language model.")
    if weight.is_meta:
        raise UnusableModel(f"{name}'s output projection does not fit in memory: see GRADSENTRY_MAX_MEMORY")
    if not weight.is_floating_point():
        raise UnusableModel(f"{name}'s output projection is quantised: take a model whose head is left as it was.")
    size = min(weight.shape[0], model.get_input_embeddings().weight.shape[0])
    ids = torch.arange(8, device=weight.device)[None] % size
    try:
        output = body(input_ids=ids, use_cache=False)
        hidden = output.last_hidden_state[0].to(weight.device)
        shell = _shell(model, type(output))
        with torch.enable_grad():
            product, logits = _run_head(shell, projection, hidden)
        logits = logits.detach()
        expected = model(input_ids=ids, use_cache=False).logits[0].to(weight.device)
        longer = torch.cat([ids, ids.flip(1)], dim=1)
        continued = body(input_ids=longer, use_cache=False).last_hidden_state[0, : len(hidden)].to(weight.device)
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise UnusableModel(f"{name} does not run as a causal language model: {error}") from error
    tolerance = 1e-3 * expected.float().abs().max().clamp_min(1.0)
    if weight.shape[1] != hidden.shape[-1] or (logits.float() - expected.float()).abs().max() > tolerance:
        raise UnusableModel(
            f"{name} puts more between its last hidden state and its logits than GradSentry can follow."
        )
    # Not the largest difference: in half precision one token of a mixture of experts may go to another expert.
    moved = (continued - hidden).float().norm(dim=1) / hidden.float().norm(dim=1).clamp_min(1e-9)  # (8,)
    if moved.median() > (1e-3 if hidden.dtype in (torch.float32, torch.float64) else 0.05):
        raise UnusableModel(
            f"{name} is not causal: a token's state depends on what comes after it. Use a causal model."
        )
    plain = torch.equal(logits.float(), product[0].detach().float())
    return OutputProjection(weight.detach(), getattr(projection, "bias", None), plain, shell, projection)
