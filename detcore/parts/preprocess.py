"""From a list of images of any sizes to one normalised batch, with the way back kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .box_forms import stretched

Size = tuple[int, int]  # height, width, in pixels

# of ImageNet in RGB 0..1: what published backbones were trained with
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FitWithin:
    """Keep the aspect ratio: shorter side to `shorter`, unless the longer would pass `longer`.

    Equal values bring the longer side to that. Sides are cut to whole pixels as torchvision cuts
    them, so one may come out a pixel short where the scale is not exact.
    """

    shorter: int
    longer: int

    def __call__(self, size: Size) -> Size:
        scale = min(self.shorter / min(size), self.longer / max(size))
        height, width = (max(1, int(side * scale)) for side in size)
        return height, width


@dataclass(frozen=True)
class StretchTo:
    """Every image to the same size, whatever its aspect ratio: SSD's rule."""

    height: int
    width: int

    def __call__(self, size: Size) -> Size:
        return self.height, self.width


@dataclass(frozen=True)
class ShorterTo:
    """Keep the aspect ratio: the shorter side to `shorter`, as torchvision's Resize does it."""

    shorter: int

    def __call__(self, size: Size) -> Size:
        height, width = (int(self.shorter * side / min(size)) for side in size)
        return height, width


@dataclass(frozen=True)
class ImageBatch:
    """What `Preprocess` makes of a list of images.

    images: [B, C, H, W], normalised, the images at the top left, zeros (the mean) beside them.
    sizes: each image's height and width within the batch. original_sizes: as they were given.
    """

    images: Tensor
    sizes: list[Size]
    original_sizes: list[Size]

    @property
    def padded_size(self) -> Size:
        """(height, width) of the batch's tensor, pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def ratios(self) -> list[tuple[float, float, float, float]]:
        """Of each image, what its boxes are multiplied by to get the given image's pixels."""
        pairs = zip(self.sizes, self.original_sizes, strict=True)
        return [_ratio(size, original) for size, original in pairs]

    def boxes_in(self, boxes: Sequence[Tensor]) -> list[Tensor]:
        """Boxes [n, 4 or 5] of each image, from the given image's pixels to the batch's.

        In the anchors' dtype, float32 at least, whatever the targets come in.
        """
        dtype = torch.promote_types(self.images.dtype, torch.float32)
        triples = zip(boxes, self.original_sizes, self.sizes, strict=True)
        return [scale_boxes(b.to(dtype), old, new) for b, old, new in triples]


class Preprocess(nn.Module):
    """Resize, normalise, cut if wanted, pad and stack.

    Args:
        resize: from an image's (height, width) to the wanted one: `FitWithin`, `StretchTo`,
            `ShorterTo`.
        crop: height and width of the middle that is cut out after resizing; None: all of it. For
            classifiers: boxes know nothing of it.
        pad_to: the batch's height and width; None: the largest image's, rounded up.
        divisor: the rounding of the batch's sides, so that strides divide them.
        channels: of the images. mean, std: of each channel, for images in 0..1; None: ImageNet's
            for three channels, the average of its three for another number.

        antialias: of the bilinear resizing: torchvision's classifiers have it, its detectors not.

    forward(images): list of float [C, H, W] gives an `ImageBatch`. Raises ValueError where `pad_to`
    is too small or an image too small to be cut.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        resize: Callable[[Size], Size],
        *,
        crop: Size | None = None,
        antialias: bool = False,
        pad_to: Size | None = None,
        divisor: int = 32,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.resize = resize
        self.crop = crop
        self.antialias = antialias
        self.dtype: torch.dtype | None = None  # of the batch; None: the images' own
        self.pad_to = pad_to
        self.divisor = divisor
        # not in the checkpoint: they are settings, not weights
        for name, given, usual in (("mean", mean, IMAGENET_MEAN), ("std", std, IMAGENET_STD)):
            values = _of_channels(name, given, usual, channels)
            self.register_buffer(name, values, persistent=False)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return len(self.mean)

    def forward(self, images: Sequence[Tensor]) -> ImageBatch:
        """One padded batch [B, C, H, W] of images [C, H, W] in 0..1 of any sizes."""
        originals = [_size(image) for image in images]
        resized = [self._prepared(image) for image in images]
        sizes = [_size(image) for image in resized]
        height, width = self._batch_size(sizes)
        shape = (len(images), resized[0].shape[0], height, width)
        batch = resized[0].new_zeros(shape, dtype=self.dtype)
        for row, image in zip(batch, resized, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        return ImageBatch(batch, sizes, originals)

    def _prepared(self, image: Tensor) -> Tensor:
        # in torchvision's order, so that the two round alike
        if self.crop is None:
            return self._resized((image - self.mean) / self.std)
        return (_middle(self._resized(image), self.crop) - self.mean) / self.std

    def _resized(self, image: Tensor) -> Tensor:
        size = self.resize(_size(image))
        if size == _size(image):
            return image
        return F.interpolate(
            image[None], size, mode="bilinear", align_corners=False, antialias=self.antialias
        )[0]

    def _batch_size(self, sizes: list[Size]) -> Size:
        largest = max(s[0] for s in sizes), max(s[1] for s in sizes)
        wanted = largest if self.pad_to is None else self.pad_to
        if wanted[0] < largest[0] or wanted[1] < largest[1]:
            raise ValueError(f"Preprocess: pad_to must hold {largest}, got {self.pad_to}")
        height, width = (-(-side // self.divisor) * self.divisor for side in wanted)
        return height, width


def scale_boxes(boxes: Tensor, old_size: Size, new_size: Size) -> Tensor:
    """Boxes [n, 4 or 5] of an image of old_size, in pixels of new_size (height, width)."""
    return stretched(boxes, boxes.new_tensor(_ratio(old_size, new_size)))


def _ratio(old_size: Size, new_size: Size) -> tuple[float, float, float, float]:
    y, x = new_size[0] / old_size[0], new_size[1] / old_size[1]
    return x, y, x, y


def _middle(image: Tensor, size: Size) -> Tensor:
    top, left = (round((a - b) / 2) for a, b in zip(_size(image), size, strict=True))
    if top < 0 or left < 0:
        raise ValueError(f"Preprocess: {size} cannot be cut out of {_size(image)}")
    return image[:, top : top + size[0], left : left + size[1]]


def _of_channels(
    name: str, given: Sequence[float] | None, imagenet: Sequence[float], channels: int
) -> Tensor:
    if given is None:
        given = imagenet if channels == 3 else (sum(imagenet) / 3,) * channels
    if len(given) != channels:
        raise ValueError(
            f"Preprocess: {name} must have {channels} values, one per channel, got {list(given)}"
        )
    return torch.tensor(given).view(-1, 1, 1)


def _size(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]
