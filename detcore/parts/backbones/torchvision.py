"""A torchvision classification network as a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detcore.parts.freeze import freeze_upstream

try:
    import torchvision
    from timm.models import adapt_input_conv
    from torchvision.models.feature_extraction import create_feature_extractor
    from torchvision.ops import FrozenBatchNorm2d
except ImportError as error:
    raise ImportError(
        f"detcore.parts.backbones.torchvision needs {error.name}: pip install 'detcore[models]'"
    ) from error

_PROBE = 128  # side of the image that channels and strides are read from, pixels


class TorchvisionBackbone(nn.Module):
    """The feature maps of a torchvision network, finest first, with channels and strides as data.

    Weights keep torchvision's names below `body`, so published checkpoints load into it.

    Args:
        name: a classification network of `torchvision.models`, say resnet50, vgg16 or
            mobilenet_v3_large.
        layers: the modules whose outputs are the maps, by their dotted names, in the network's
            order; a name may lie inside a block (features.13.block.0). None: the network's last
            ones at `strides`.
        in_chans: channels of the input images; pretrained weights of the first convolution are
            summed or repeated to fit, as timm does it.
        pretrained: load torchvision's weights for ImageNet (needs a network or torch's cache).
        frozen_norm: every batch norm has fixed statistics and affine terms.
        frozen_maps: the weights that the first so many maps depend on don't learn, and their batch
            norms are fixed.
        norm_eps: epsilon of all batch norms; None: the network's own.
        reduced_tail: halve MobileNetV3's last stage, as SSDLite has it (Howard et al., 2019).

    Pooling of VGG rounds up, so that a map of stride s has ceil(H / s) cells, as ResNet's have and
    as SSD (Liu et al., 2016) wants it. Attributes, forward and errors: as `Backbone`.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(
        self,
        name: str,
        layers: Sequence[str] | None = None,
        *,
        strides: Sequence[int] = (8, 16, 32),
        in_chans: int = 3,
        pretrained: bool = False,
        frozen_norm: bool = False,
        frozen_maps: int = 0,
        norm_eps: float | None = None,
        reduced_tail: bool = False,
    ) -> None:
        super().__init__()
        self.in_chans = in_chans
        whole = _build(name, pretrained, frozen_norm, norm_eps, reduced_tail)
        _take_channels(whole, in_chans)
        taps = _layers_at(whole, name, strides, in_chans) if layers is None else list(layers)
        try:
            self.body = create_feature_extractor(whole, taps)
        except ValueError as error:
            raise ValueError(
                f"TorchvisionBackbone: layers must name modules of {name}, got {taps}"
            ) from error
        maps = _probe(self.body, in_chans)
        self.channels = tuple(m.shape[1] for m in maps.values())
        self.strides = tuple(_PROBE // m.shape[2] for m in maps.values())
        freeze_upstream(self.body, frozen_maps, torch.zeros(1, in_chans, _PROBE, _PROBE))
        self.config: dict[str, Any] = {
            "name": f"torchvision:{name}",
            "layers": taps,
            "in_chans": in_chans,
            "frozen_norm": frozen_norm,
            "frozen_maps": frozen_maps,
            "norm_eps": norm_eps,
            "reduced_tail": reduced_tail,
        }

    @classmethod
    def at_strides(cls, name: str, strides: Sequence[int], **options: Any) -> TorchvisionBackbone:
        """The backbone whose maps are the network's last ones of the given strides.

        `options` as for the constructor. Raises ValueError where there is no such stride.
        """
        return cls(name, strides=strides, **options)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps [B, C_i, H_i, W_i] of images [B, C, H, W], finest first."""
        return list(self.body(images).values())


def _build(
    name: str,
    pretrained: bool,
    frozen_norm: bool,
    norm_eps: float | None,
    reduced_tail: bool,
) -> nn.Module:
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"TorchvisionBackbone: name must be a classification network of torchvision, "
            f"got {name!r}"
        )
    options: dict[str, Any] = {"reduced_tail": True} if reduced_tail else {}
    if frozen_norm:
        eps = 1e-5 if norm_eps is None else norm_eps
        options["norm_layer"] = partial(FrozenBatchNorm2d, eps=eps)
    elif norm_eps is not None:
        options["norm_layer"] = partial(nn.BatchNorm2d, eps=norm_eps)
    weights = torchvision.models.get_model_weights(name).DEFAULT if pretrained else None
    try:
        whole: nn.Module = torchvision.models.get_model(name, weights=weights, **options)
    except TypeError as error:
        raise ValueError(f"TorchvisionBackbone: {name} does not take {list(options)}") from error
    for module in whole.modules():
        if isinstance(module, nn.MaxPool2d) and module.padding == 0:
            module.ceil_mode = True
    return whole


def _take_channels(whole: nn.Module, in_chans: int) -> None:
    """Let the network's first convolution read `in_chans` channels."""
    first, conv = next((k, m) for k, m in whole.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == in_chans:
        return
    fresh = nn.Conv2d(
        in_chans,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    fresh.weight.data.copy_(adapt_input_conv(in_chans, conv.weight.data))
    if conv.bias is not None:
        fresh.bias.data.copy_(conv.bias.data)  # type: ignore[union-attr]
    whole.set_submodule(first, fresh)


def _layers_at(whole: nn.Module, name: str, strides: Sequence[int], in_chans: int) -> list[str]:
    """The last stage of each stride: stages are children of the network or of its trunk."""
    trunks = [t for t in ("features", "trunk_output") if hasattr(whole, t)]
    prefix = f"{trunks[0]}." if trunks else ""
    stages = whole.get_submodule(trunks[0]) if trunks else whole
    children = [prefix + child for child, _ in stages.named_children()]
    extractor = create_feature_extractor(whole, [c for c in children if c != "fc"])
    last = {_PROBE // m.shape[2]: c for c, m in _probe(extractor, in_chans).items() if m.dim() == 4}
    missing = [stride for stride in strides if stride not in last]
    if missing:
        raise ValueError(
            f"TorchvisionBackbone: {name} must have maps of strides {list(strides)}, "
            f"got {sorted(last)}"
        )
    return [last[stride] for stride in strides]


@torch.no_grad()
def _probe(body: nn.Module, in_chans: int) -> dict[str, Tensor]:
    training = body.training
    maps: dict[str, Tensor] = body.eval()(torch.zeros(1, in_chans, _PROBE, _PROBE))
    body.train(training)
    return maps
