"""A timm model as a backbone: feature maps, their channels and strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detcore.parts.freeze import freeze_norms, freeze_upstream

try:
    import timm
except ImportError as error:
    raise ImportError(
        "detcore.parts.backbones.timm needs timm: pip install 'detcore[models]'"
    ) from error

# 2.8 million weights; of a dozen of this size it learnt handwritten digits fastest from scratch
DEFAULT_BACKBONE = "cs3darknet_focus_s"


class Backbone(nn.Module):
    """The feature maps of a timm model, finest first, with channels and strides as data.

    Args:
        name: any timm model that supports `features_only`.
        out_indices: which of its feature maps to give, in timm's own counting.
        in_chans: channels of the input images.
        pretrained: load timm's published weights (needs a network or timm's cache).
        frozen_norm: replace every batch norm by one whose statistics and affine terms are fixed,
            as detectors fine-tuned on a few images per step have it.
        frozen_maps: the weights that the first so many maps depend on don't learn, and their batch
            norms are fixed.

    Attributes:
        channels: channels of each map. strides: pixels of the image per cell of each map.
        in_chans: as given.
        config: what `Backbone(**config)` rebuilds the same architecture from (weights are a
            checkpoint's matter, so `pretrained` is never part of it).

    forward(images): [B, in_chans, H, W] gives a list of [B, channels[i], H_i, W_i], H_i being
    H / strides[i] where the stride divides H. Raises ValueError for an unknown name or index.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(
        self,
        name: str = DEFAULT_BACKBONE,
        out_indices: Sequence[int] = (2, 3, 4),
        *,
        in_chans: int = 3,
        pretrained: bool = False,
        frozen_norm: bool = False,
        frozen_maps: int = 0,
    ) -> None:
        super().__init__()
        _check_name(name)
        self.in_chans = in_chans
        try:
            body: Any = timm.create_model(
                name,
                pretrained=pretrained,
                features_only=True,
                out_indices=tuple(out_indices),
                in_chans=in_chans,
            )
        except (AssertionError, IndexError) as error:
            raise ValueError(
                f"Backbone: out_indices must name feature maps of {name}, got {list(out_indices)}"
            ) from error
        self.body = freeze_norms(body) if frozen_norm else body
        self.channels = tuple(body.feature_info.channels())
        self.strides = tuple(body.feature_info.reduction())
        # transformers of the Swin family give NHWC; all that follows here takes NCHW
        self._channels_last = str(getattr(body, "output_fmt", "NCHW")).endswith("NHWC")
        self.config: dict[str, Any] = {
            "name": name,
            "out_indices": list(out_indices),
            "in_chans": in_chans,
            "frozen_norm": frozen_norm,
            "frozen_maps": frozen_maps,
        }
        if frozen_maps:
            freeze_upstream(self.body, frozen_maps, torch.zeros(1, in_chans, *_input_size(body)))

    @classmethod
    def at_strides(cls, name: str, strides: Sequence[int], **options: Any) -> Backbone:
        """The backbone whose maps have the given strides: of several, timm's last one.

        `options` as for the constructor. Raises ValueError where the model has no such stride.
        """
        return cls(name, _indices_of(name, strides), **options)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps [B, C_i, H_i, W_i] of images [B, C, H, W], finest first."""
        maps = self.body(images)
        return [m.permute(0, 3, 1, 2).contiguous() if self._channels_last else m for m in maps]


def _indices_of(name: str, strides: Sequence[int]) -> list[int]:
    _check_name(name)
    probe: Any = timm.create_model(name, pretrained=False, features_only=True)
    index_of = {stride: index for index, stride in enumerate(probe.feature_info.reduction())}
    missing = [stride for stride in strides if stride not in index_of]
    if missing:
        raise ValueError(
            f"Backbone: {name} must have maps of strides {list(strides)}, got {list(index_of)}"
        )
    return [index_of[stride] for stride in strides]


def _input_size(body: Any) -> tuple[int, int]:
    """What a network is fed to learn of its own graph: 128 pixels, unless it takes one size."""
    cfg = getattr(body, "pretrained_cfg", None) or {}
    fixed = cfg.get("fixed_input_size", False)
    return tuple(cfg["input_size"][1:]) if fixed else (128, 128)


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        raise ValueError(f"Backbone: name must be a timm model, got {name!r}")
