"""ROI-align as modules, with torchvision's signatures."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

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
    """`multiscale_roi_align` as a module: the scales follow from the sizes of the images.

    Args:
        featmap_names: the names of the maps to pool from, finest first.
        output_size, sampling_ratio, canonical_scale, canonical_level: as in `multiscale_roi_align`.

    Called with x (names to maps [N, C, H_l, W_l]), boxes (a list of [L_i, 4], xyxy in pixels, one
    per image) and image_shapes (a list of (height, width)), it returns
    [sum of L_i, C, height, width] in the order of the boxes. Deterministic. The same signature as
    torchvision.ops.MultiScaleRoIAlign.

    Example:
        >>> import torch
        >>> from detcore.ops import MultiScaleRoIAlign
        >>> pool = MultiScaleRoIAlign(["p2", "p3"], output_size=7, sampling_ratio=2)
        >>> maps = {"p2": torch.rand(1, 8, 64, 64), "p3": torch.rand(1, 8, 32, 32)}
        >>> pool(maps, [torch.tensor([[0., 0, 90, 90]])], [(256, 256)]).shape
        torch.Size([1, 8, 7, 7])
    """

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

    def forward(
        self,
        x: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """[K, C, height, width] of a mapping of maps, boxes per image and image sizes."""
        if not isinstance(x, Mapping):
            raise TypeError(f"MultiScaleRoIAlign: x must be a mapping, got {type(x).__name__}")
        features = [x[name] for name in self.featmap_names if name in x]
        if not features:
            raise ValueError(
                f"MultiScaleRoIAlign: x must hold one of {self.featmap_names}, got {list(x)}"
            )
        for i, feature in enumerate(features):
            if not isinstance(feature, Tensor) or feature.dim() != 4 or 0 in feature.shape[-2:]:
                got = list(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
                raise ValueError(
                    f"MultiScaleRoIAlign: map {i} of x must be [N, C, H, W], got {got}"
                )
        if not image_shapes or any(shape[0] < 1 for shape in image_shapes):
            raise ValueError(
                f"MultiScaleRoIAlign: image_shapes must list (height, width) of one image at "
                f"least, of 1 or more, got {list(image_shapes)}"
            )
        scales = [self._scale(f, image_shapes) for f in features]
        rois = to_rois(features[0], boxes, "MultiScaleRoIAlign")
        return multiscale_roi_align(
            features,
            rois,
            self.output_size,
            scales,
            self.sampling_ratio,
            self.canonical_scale,
            self.canonical_level,
        )

    @staticmethod
    def _scale(feature: Tensor, image_shapes: Sequence[tuple[int, int]]) -> float:
        # features are the padded batch's, so the largest image tells the stride: a power of two
        tallest = max(shape[0] for shape in image_shapes)
        return 2.0 ** round(math.log2(feature.shape[-2] / tallest))
