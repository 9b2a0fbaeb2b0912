"""Backbones: networks that give feature maps, with channels and strides as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch import nn

from detcore.parts.backbones.timm import DEFAULT_BACKBONE, Backbone

_TORCHVISION = "torchvision:"


def as_backbone(
    spec: str | Mapping[str, Any] | nn.Module, strides: Sequence[int], *, pretrained: bool = False
) -> Backbone:
    """The backbone that a model's `backbone` argument describes.

    Args:
        spec: a name makes a new backbone with maps at `strides`: timm's model of that name, or
            torchvision's if it begins with torchvision: (such as torchvision:resnet18). A mapping
            holds `name` and further arguments of `Backbone` or `TorchvisionBackbone`; without
            out_indices or layers its maps are at `strides` too. A module with `channels` and
            `strides` is used as it is, so several models can share one instance.
        strides: pixels of the image per cell of each wanted map.
        pretrained: load published weights into a new backbone.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(spec, nn.Module) and hasattr(spec, "channels") and hasattr(spec, "strides"):
        return cast(Backbone, spec)  # not one perhaps, but used as one
    if not isinstance(spec, str | Mapping):
        raise ValueError(
            "as_backbone: backbone must be a name, a mapping of Backbone's arguments or a module "
            f"with channels and strides, got {type(spec).__name__}"
        )
    options: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    options = {"pretrained": pretrained, **options}
    name = str(options.pop("name", DEFAULT_BACKBONE))
    kind: Any = Backbone
    if name.startswith(_TORCHVISION):
        from detcore.parts.backbones.torchvision import TorchvisionBackbone

        kind, name = TorchvisionBackbone, name.removeprefix(_TORCHVISION)
    chosen = "out_indices" in options or options.get("layers") is not None
    make = kind if chosen else partial(kind.at_strides, strides=strides)
    try:
        return cast(Backbone, make(name, **options))
    except TypeError as error:
        raise ValueError(f"as_backbone: {error}") from error


def in_channels(backbone: nn.Module) -> int:
    """Channels of the images that a backbone reads: 3 unless it says otherwise."""
    return int(getattr(backbone, "in_chans", 3))
