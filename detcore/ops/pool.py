"""ROI-align as modules, with torchvision's signatures."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.fx import Proxy

from .boxes import box_area
from .multiscale_roi_align import multiscale_roi_align
from .roi_align import roi_align, to_rois


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
        image_shapes: Sequence[tuple[int, int]],
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


class LevelMapper:
    """From the size of a region to the map that it is pooled from, by torchvision's rule.

    Args:
        scales: of the maps, finest first. canonical_scale, canonical_level: as in
            `multiscale_roi_align`.
    """

    def __init__(self, scales: Sequence[float], canonical_scale: int, canonical_level: int) -> None:
        self.finest, self.coarsest = (-math.log2(scale) for scale in (scales[0], scales[-1]))
        self.canonical_scale, self.canonical_level = canonical_scale, canonical_level

    def __call__(self, boxlists: Sequence[Tensor]) -> Tensor:
        """int64 [sum of L_i] of a list of [L_i, 4], counted from the first map's level."""
        return self.levels(torch.cat([box_area(boxes) for boxes in boxlists]).sqrt()).long()

    def levels(self, sizes: Tensor) -> Tensor:
        """Levels of regions by the square root of their area, in pixels; NaN for NaN."""
        level = self.canonical_level + torch.log2(sizes / self.canonical_scale) + 1e-6
        return level.floor().clamp(max=self.coarsest).clamp(min=self.finest) - self.finest


def pool_by_size(
    x: Mapping[str, Tensor],
    boxes: list[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    featmap_names: Sequence[str],
    output_size: tuple[int, int],
    sampling_ratio: int,
    canonical_scale: int,
    canonical_level: int,
) -> Tensor:
    """What `MultiScaleRoIAlign` returns, of its settings and its inputs."""
    features, scales = _checked(x, featmap_names, image_shapes)
    settings = (output_size, sampling_ratio, canonical_scale, canonical_level)
    return _pooled(features, scales, boxes, *settings)


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
    if all(after == before / 2 for before, after in pairwise(scales)):
        return multiscale_roi_align(
            features, rois, output_size, scales, sampling_ratio, canonical_scale, canonical_level
        )
    levels = LevelMapper(scales, canonical_scale, canonical_level).levels
    place = levels(box_area(rois[:, 1:]).sqrt()).clamp(max=len(scales) - 1)
    pooled = features[0].new_zeros(len(rois), features[0].shape[1], *output_size)
    for i, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        (here,) = torch.where(place == i)
        part = roi_align(feature, rois[here], output_size, scale, sampling_ratio)
        pooled = pooled.index_copy(0, here, part)
    return pooled


def _checked(
    x: Mapping[str, Tensor], names: Sequence[str], image_shapes: Sequence[tuple[int, int]]
) -> tuple[list[Tensor], list[float]]:
    """The maps to pool from, and the scale of each."""
    if not isinstance(x, Mapping):
        raise TypeError(f"MultiScaleRoIAlign: x must be a mapping, got {type(x).__name__}")
    features = [x[name] for name in names if name in x]
    if not features:
        raise ValueError(f"MultiScaleRoIAlign: x must hold one of {list(names)}, got {list(x)}")
    for i, feature in enumerate(features):
        if not isinstance(feature, Tensor) or feature.dim() != 4 or 0 in feature.shape[-2:]:
            got = list(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
            raise ValueError(f"MultiScaleRoIAlign: map {i} of x must be [N, C, H, W], got {got}")
    if not image_shapes or any(shape[0] < 1 for shape in image_shapes):
        raise ValueError(
            f"MultiScaleRoIAlign: image_shapes must list (height, width) of one image at "
            f"least, of 1 or more, got {list(image_shapes)}"
        )
    # features are the padded batch's, so the largest image tells the stride: a power of two
    tallest = max(shape[0] for shape in image_shapes)
    return features, [2.0 ** round(math.log2(f.shape[-2] / tallest)) for f in features]
