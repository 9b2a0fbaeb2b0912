"""The optimizer of a run, and what it decays."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.optim import SGD, AdamW, Optimizer


def make_optimizer(
    model: nn.Module,
    kind: str,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    nesterov: bool = True,
) -> Optimizer:
    """AdamW, or SGD with momentum; norms and biases are not decayed, frozen weights left out.

    momentum, nesterov: of SGD; without momentum there is nothing to look ahead along, and
    nesterov is unread.

    Raises:
        ValueError: `kind` is neither ``adamw`` nor ``sgd``.
    """
    groups = [
        {"params": list(_parameters(model, decayed=True)), "weight_decay": weight_decay},
        # decay of a norm's scale or of a bias only slows learning (He et al., 1812.01187)
        {"params": list(_parameters(model, decayed=False)), "weight_decay": 0.0},
    ]
    if kind == "adamw":
        return AdamW(groups, lr=lr)
    if kind == "sgd":
        return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0)
    raise ValueError(f"optimizer must be adamw or sgd, got {kind!r}")


def _parameters(model: nn.Module, *, decayed: bool) -> Iterator[nn.Parameter]:
    for parameter in model.parameters():
        if parameter.requires_grad and (parameter.ndim > 1) == decayed:
            yield parameter
