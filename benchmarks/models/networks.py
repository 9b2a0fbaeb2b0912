"""torchvision's detectors with random weights that behave like trained ones.

Published weights are not available everywhere. A benchmark or comparison only needs activations of
a normal size and hundreds of detections.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection


def sample_photos() -> list[Tensor]:
    """scikit-learn's photos of a temple and a flower, and crops: float [3, H, W] in three sizes."""
    temple, flower = (
        torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
        for image in load_sample_images().images
    )
    return [temple, flower[:, 40:411, 100:433], temple[:, :200, 300:601]]


def torchvision_detector(
    name: str, photos: list[Tensor], *, background: float = 0.0, **options: Any
) -> nn.Module:
    """A random model with normal activations that finds hundreds of objects.

    background: added to the background's logits. With 0 nearly every box passes SSD's score
    threshold in nearly every class, but a trained model is sure of the background nearly
    everywhere.
    """
    torch.manual_seed(3)
    build: Callable[..., nn.Module] = getattr(detection, name)
    model = build(weights=None, weights_backbone=None, **options)
    with torch.no_grad():
        follow(model.backbone, torch.stack([normalised(p) for p in photos]))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                _perturb(module)
    for key, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if "cls_score" in key or "classification_head" in key:
                layer.register_forward_pre_hook(partial(spread, 1.5))
            elif "cls_logits" in key or "bbox_pred" in key or "regression_head" in key:
                layer.register_forward_pre_hook(partial(spread, 0.3))
    with torch.no_grad():
        model.eval()(photos)
        for key, bias in model.named_parameters():
            # the biases of the last layers have 91 classes; SSD's repeat them once per anchor of a
            # cell
            scores = "cls_score" in key or "classification_head" in key
            if scores and bias.dim() == 1 and len(bias) % 91 == 0:
                bias[::91] += background
    return model


def _perturb(norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    deviation = norm.running_var.sqrt()
    norm.running_mean += 0.1 * deviation * torch.randn_like(deviation)
    norm.running_var *= 0.7 + 0.6 * torch.rand_like(deviation)
    norm.weight.uniform_(0.7, 1.3)
    norm.bias.normal_(std=0.2)


def normalised(photo: Tensor) -> Tensor:
    """Resize and normalise [3, H, W] in 0..1 for a network with 224 x 224 pixels."""
    return (F.interpolate(photo[None], (224, 224))[0] - 0.45) / 0.23


def follow(backbone: nn.Module, batch: Tensor) -> None:
    """Set the batch norms of a random network to the statistics of real photos."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
    backbone.train()(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def spread(std: float, layer: nn.Module, inputs: tuple[Tensor]) -> None:
    """At a layer's first call, set weights and biases so that its outputs have this `std`."""
    weight, bias = layer.weight, layer.bias
    size = inputs[0].square().mean().sqrt() + 1e-12
    weight.normal_(std=std / float(size * weight[0].numel() ** 0.5))
    if bias is not None:
        bias.normal_(std=std)
    layer._forward_pre_hooks.clear()
