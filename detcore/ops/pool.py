"""Pooling of regions as modules, with torchvision's signatures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.fx import Proxy

from .boxes import box_area
from .multiscale_roi_align import _multiscale_roi_align
from .roi_align import roi_align, to_rois
from .roi_align_rotated import roi_align_rotated
from .roi_pool import roi_pool


class RoIAlign(nn.Module):
    """`roi_align` as a module that holds its settings.

    Args:
        output_size, spatial_scale, sampling_ratio, aligned: as in `roi_align`.

    Called with a map [N, C, H, W] and boxes [K, 5], or a list of [L_i, 4], it returns
    [K, C, height, width]. Deterministic. The same signature as torchvision.ops.RoIAlign.

    Example:
        >>> import torch
        >>> from detcore.ops import RoIAlign
        >>> pool = RoIAlign(7, spatial_scale=1 / 16, sampling_ratio=2)
        >>> pool(torch.rand(1, 8, 20, 20), [torch.tensor([[0., 0, 160, 160]])]).shape
        torch.Size([1, 8, 7, 7])
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor | list[Tensor]) -> Tensor:
        """`roi_align` of a map [N, C, H, W] at regions [K, 5], or a list of [L_i, 4]."""
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def extra_repr(self) -> str:
        """The settings, for `print(module)`."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


class RoIAlignRotated(nn.Module):
    """`roi_align_rotated` as a module that holds its settings.

    Args:
        output_size, spatial_scale, sampling_ratio, aligned, clockwise: as in `roi_align_rotated`.

    Called with a map [N, C, H, W] and boxes [K, 6], or a list of [L_i, 5], it returns
    [K, C, height, width]. Deterministic. The same arguments as mmcv.ops.RoIAlignRotated, whose
    boxes have radians.

    Example:
        >>> import torch
        >>> from detcore.ops import RoIAlignRotated
        >>> pool = RoIAlignRotated(7, spatial_scale=1 / 16, sampling_ratio=2)
        >>> pool(torch.rand(1, 8, 20, 20), [torch.tensor([[80., 80, 160, 60, 30]])]).shape
        torch.Size([1, 8, 7, 7])
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int = -1,
        aligned: bool = True,
        clockwise: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.clockwise = clockwise

    def forward(self, input: Tensor, rois: Tensor | list[Tensor]) -> Tensor:
        """`roi_align_rotated` of a map [N, C, H, W] at regions [K, 6], or a list of [L_i, 5]."""
        return roi_align_rotated(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
            self.clockwise,
        )

    def extra_repr(self) -> str:
        """The settings, for `print(module)`."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}, "
            f"clockwise={self.clockwise}"
        )


class RoIPool(nn.Module):
    """`roi_pool` as a module that holds its settings.

    Args:
        output_size, spatial_scale: as in `roi_pool`.

    Called with a map [N, C, H, W] and boxes [K, 5], or a list of [L_i, 4], it returns
    [K, C, height, width]. Deterministic. The same signature as torchvision.ops.RoIPool.

    Example:
        >>> import torch
        >>> from detcore.ops import RoIPool
        >>> pool = RoIPool(7, spatial_scale=1 / 16)
        >>> pool(torch.rand(1, 8, 20, 20), [torch.tensor([[0., 0, 160, 160]])]).shape
        torch.Size([1, 8, 7, 7])
    """

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Tensor | list[Tensor]) -> Tensor:
        """`roi_pool` of a map [N, C, H, W] at regions [K, 5], or a list of [L_i, 4]."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        """The settings, for `print(module)`."""
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class MultiScaleRoIAlign(nn.Module):
    """Pools each region from the map that fits its size, as torchvision's module of this name.

    Args:
        featmap_names: the names of the maps to pool from, finest first.
        output_size, sampling_ratio, canonical_scale, canonical_level: as in `multiscale_roi_align`.

    Called with x (names to maps [N, C, H_l, W_l]), boxes (a list of [L_i, 4], xyxy in pixels, one
    per image) and image_shapes (a list of (height, width)), it returns
    [sum of L_i, C, height, width] in the order of the boxes, in the dtype of the first map.
    Deterministic. The same signature as torchvision.ops.MultiScaleRoIAlign.

    Maps whose strides double from one to the next are pooled by `multiscale_roi_align` in one call.
    Others, such as two maps of one stride or a pyramid with a level left out, are pooled map by map
    by torchvision's rule, which counts levels from the first map's stride; a region whose level
    lies beyond the maps is pooled from the nearest one (torchvision: zeros), and the scales are
    those of the call's own maps (torchvision: of the first call's).

    Attributes:
        scales: of the last call's maps, None before the first call.
        map_levels: torchvision's rule for these scales: from a list of [L_i, 4] boxes to int64
            [sum of L_i], counted from the first map; None before the first call.

    Example:
        >>> import torch
        >>> from detcore.ops import MultiScaleRoIAlign
        >>> pool = MultiScaleRoIAlign(["p2", "p3"], output_size=7, sampling_ratio=2)
        >>> maps = {"p2": torch.rand(1, 8, 64, 64), "p3": torch.rand(1, 8, 32, 32)}
        >>> pool(maps, [torch.tensor([[0., 0, 90, 90]])], [(256, 256)]).shape
        torch.Size([1, 8, 7, 7])
    """

    scales: list[float] | None
    map_levels: "LevelMapper | None"

    def __init__(
        self,
        featmap_names: Sequence[str],
        output_size: int | tuple[int, int],
        sampling_ratio: int,
        *,
        canonical_scale: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        self.featmap_names = list(featmap_names)
        height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
        self.output_size = (height, width)
        self.sampling_ratio = sampling_ratio
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level
        self.scales = self.map_levels = None

    def forward(
        self,
        x: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Tensor:
        """[K, C, height, width] of a mapping of maps, boxes per image and image sizes."""
        settings = (
            *(self.output_size, self.sampling_ratio),
            *(self.canonical_scale, self.canonical_level),
        )
        if isinstance(x, Proxy):  # torch.fx traces: one call in its graph
            arguments = (x, boxes, image_shapes, self.featmap_names, *settings)
            traced: Any = x.tracer.create_proxy("call_function", pool_by_size, arguments, {})
            return traced
        if not isinstance(x, Mapping):
            raise TypeError(f"MultiScaleRoIAlign: x must be a mapping, got {type(x).__name__}")
        features, scales = _checked(x, self.featmap_names, image_shapes)
        if not is_compiling():
            self.scales = scales
            mapper = LevelMapper(scales, self.canonical_scale, self.canonical_level)
            self.map_levels = mapper
        return _pooled(features, scales, boxes, *settings)

    def extra_repr(self) -> str:
        """The settings, for `print(module)`."""
        return (
            f"featmap_names={self.featmap_names}, output_size={self.output_size}, "
            f"sampling_ratio={self.sampling_ratio}"
        )

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles in the place of this module."""
        return _Scriptable(self)


class _Scriptable(nn.Module):
    """`MultiScaleRoIAlign` without its attributes, which TorchScript can't hold."""

    def __init__(self, pool: MultiScaleRoIAlign) -> None:
        super().__init__()
        self.featmap_names = pool.featmap_names
        self.output_size = pool.output_size
        self.sampling_ratio = pool.sampling_ratio
        self.canonical_scale = pool.canonical_scale
        self.canonical_level = pool.canonical_level

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        return pool_by_size(
            x, boxes, image_shapes, self.featmap_names, self.output_size, self.sampling_ratio,
            self.canonical_scale, self.canonical_level,
        )  # fmt: skip


class LevelMapper:
    """From the size of a region to the map that it is pooled from, by torchvision's rule.

    Args:
        scales: of the maps, finest first. canonical_scale, canonical_level: as in
            `multiscale_roi_align`.
    """

    def __init__(self, scales: list[float], canonical_scale: int, canonical_level: int) -> None:
        self.settings = (scales, canonical_scale, canonical_level)

    def __call__(self, boxlists: Sequence[Tensor]) -> Tensor:
        """int64 [sum of L_i] of a list of [L_i, 4], counted from the first map's level."""
        return _levels(torch.cat([box_area(boxes) for boxes in boxlists]), *self.settings).long()


# What follows is compiled by torch.jit.script too.
def _levels(
    areas: Tensor, scales: list[float], canonical_scale: int, canonical_level: int
) -> Tensor:
    """Levels of regions by their area in pixels^2, counted from the first map's; NaN for NaN."""
    finest, coarsest = -_exponent(scales[0]), -_exponent(scales[-1])
    level = canonical_level + torch.log2(areas.sqrt() / canonical_scale) + 1e-6
    return level.floor().clamp(max=coarsest).clamp(min=finest) - finest


def _exponent(scale: float) -> float:
    """That of the nearest power of two; TorchScript has no math.log2."""
    return float(round(math.log(scale) / math.log(2)))


def pool_by_size(
    x: dict[str, Tensor],
    boxes: list[Tensor],
    image_shapes: list[tuple[int, int]],
    featmap_names: list[str],
    output_size: tuple[int, int],
    sampling_ratio: int,
    canonical_scale: int,
    canonical_level: int,
) -> Tensor:
    """What `MultiScaleRoIAlign` returns, of its settings and its inputs."""
    features, scales = _checked(x, featmap_names, image_shapes)
    return _pooled(
        features, scales, boxes, output_size, sampling_ratio, canonical_scale, canonical_level
    )


def _pooled(
    features: list[Tensor],
    scales: list[float],
    boxes: list[Tensor],
    output_size: tuple[int, int],
    sampling_ratio: int,
    canonical_scale: int,
    canonical_level: int,
) -> Tensor:
    features = [feature.to(features[0].dtype) for feature in features]
    rois = to_rois(features[0], boxes, "MultiScaleRoIAlign")
    height, width = output_size
    doubling = True
    for i in range(1, len(scales)):
        doubling = doubling and scales[i] == scales[i - 1] / 2
    if doubling:
        pooled: Tensor = _multiscale_roi_align(
            features, rois, scales, height, width, sampling_ratio, False,
            float(canonical_scale), canonical_level,
        )  # fmt: skip
        return pooled
    levels = _levels(box_area(rois[:, 1:]), scales, canonical_scale, canonical_level)
    place = levels.clamp(max=len(scales) - 1)
    pooled = features[0].new_zeros((len(rois), features[0].shape[1], height, width))
    for i, feature in enumerate(features):
        (here,) = torch.where(place == i)
        part = roi_align(feature, rois[here], output_size, scales[i], sampling_ratio)
        pooled = pooled.index_copy(0, here, part)
    return pooled


def _checked(
    x: dict[str, Tensor], names: list[str], image_shapes: list[tuple[int, int]]
) -> tuple[list[Tensor], list[float]]:
    """The maps to pool from, and the scale of each."""
    features: list[Tensor] = []
    for name in names:
        if name in x:
            features.append(x[name])
    if len(features) == 0:
        raise ValueError(f"MultiScaleRoIAlign: x must hold one of {names}, got {list(x.keys())}")
    for i, feature in enumerate(features):
        if not isinstance(feature, Tensor):
            got = type(feature).__name__
            raise ValueError(f"MultiScaleRoIAlign: map {i} of x must be [N, C, H, W], got {got}")
        if feature.dim() != 4 or feature.shape[2] == 0 or feature.shape[3] == 0:
            got = f"{list(feature.shape)}"
            raise ValueError(f"MultiScaleRoIAlign: map {i} of x must be [N, C, H, W], got {got}")
    # features are the padded batch's, so the largest image tells the stride: a power of two
    heights = [shape[0] for shape in image_shapes]
    if len(heights) == 0 or min(heights) < 1:
        raise ValueError(
            f"MultiScaleRoIAlign: image_shapes must list (height, width) of one image at "
            f"least, of 1 or more, got {image_shapes}"
        )
    tallest = max(heights)
    return features, [2.0 ** _exponent(f.shape[-2] / tallest) for f in features]
