"""Weights that don't learn, and batch norms that don't follow the batch."""

import torch
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn


def freeze_norms(module: nn.Module) -> nn.Module:
    """The module with every batch norm's statistics and affine terms fixed, in place."""
    frozen: nn.Module = freeze_batch_norm_2d(module)
    return frozen


def hold_norms(module: nn.Module) -> None:
    """Keep every batch norm's statistics and affine terms as they are, in place.

    Unlike `freeze_norms` this leaves the modules what they are, so that a checkpoint of the model
    fits one whose norms learn. `module.train()` undoes the half of it: call this again after.
    """
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.training = False  # not eval(): timm's norms have an activation inside
            for parameter in norm.parameters(recurse=False):
                parameter.requires_grad_(False)


def hold_backbone(model: nn.Module) -> None:
    """Keep a model's backbone as it is, in place: weights, and the statistics of its norms.

    Of a cascade both. As with `hold_norms` the modules stay what they are, and `model.train()`
    undoes the half of it. Raises ValueError for a model that has none under that name.
    """
    held = [m for name, m in model.named_modules() if name.rpartition(".")[2] == "backbone"]
    if not held:
        raise ValueError(f"{type(model).__name__} has no backbone to freeze")
    for backbone in held:
        backbone.eval().requires_grad_(False)


def freeze_upstream(body: nn.Module, count: int, probe: Tensor) -> None:
    """Freeze every weight that the first `count` of a backbone's maps depend on, in place.

    Which ones they are is asked of autograd, so any network is taken. Their batch norms get fixed
    statistics too: frozen weights below moving statistics would not be frozen.

    body: gives a list or dict of maps for `probe`, an image batch. Raises ValueError for a count
    that there are not as many maps for.
    """
    if count == 0:
        return
    training = body.training
    found = body.eval()(probe)
    maps = list(found.values()) if isinstance(found, dict) else list(found)
    if not 0 < count <= len(maps):
        raise ValueError(f"frozen_maps must be in 0..{len(maps)}, got {count}")
    weights = [p for p in body.parameters() if p.requires_grad]
    total = torch.stack([m.sum() for m in maps[:count]]).sum()
    reached = torch.autograd.grad(total, weights, allow_unused=True)
    for weight, gradient in zip(weights, reached, strict=True):
        if gradient is not None:
            weight.requires_grad_(False)
    for name, module in list(body.named_modules()):
        norm = isinstance(module, nn.BatchNorm2d | BatchNormAct2d)
        if norm and module.weight is not None and not module.weight.requires_grad:
            body.set_submodule(name, freeze_norms(module))
    body.train(training)
