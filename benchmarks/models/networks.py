"""torchvision's detectors with random weights under which they behave as if they had learnt.

Published weights cannot be had everywhere; what a benchmark or a comparison needs of them is that
activations keep their size and that hundreds of detections come out.
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
    """A temple and a flower of scikit-learn's, and cuts of them: float [3, H, W] of three sizes."""
    temple, flower = (
        torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
        for image in load_sample_images().images
    )
    return [temple, flower[:, 40:411, 100:433], temple[:, :200, 300:601]]


def torchvision_detector(
    name: str, photos: list[Tensor], *, background: float = 0.0, **options: Any
) -> nn.Module:
    """A random model whose activations are sane and which finds hundreds of objects.

    background: added to the logits of the background. At 0 nearly every box passes SSD's score
    threshold in nearly every class; a trained model is sure of the background nearly everywhere.
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
            # the last layers' biases run over 91 classes, SSD's once an anchor of a cell
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
    """[3, H, W] in 0..1 as a network of 224 x 224 pixels takes it."""
    return (F.interpolate(photo[None], (224, 224))[0] - 0.45) / 0.23


def follow(backbone: nn.Module, batch: Tensor) -> None:
    """Let the batch norms of a random network take the statistics of real photos."""
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
    """Once, at a layer's first call: weights and biases that let its outputs vary by `std`."""
    weight, bias = layer.weight, layer.bias
    size = inputs[0].square().mean().sqrt() + 1e-12
    weight.normal_(std=std / float(size * weight[0].numel() ** 0.5))
    if bias is not None:
        bias.normal_(std=std)
    layer._forward_pre_hooks.clear()
