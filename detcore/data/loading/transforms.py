"""Augmentation of an image with its target, by torchvision.transforms.v2, and mosaics of four.

Randomness comes from torch's global generator; `detcore.data.loading.loader` seeds it for every
item, so that an item's augmentation doesn't hang on how many workers there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from detcore.data.base import Item, Target
from detcore.data.images import resized
from detcore.ops import box_area, clip_boxes_to_image
from detcore.parts.box_forms import enclosing, shared_areas, shifted
from detcore.parts.preprocess import scale_boxes


@dataclass(frozen=True)
class Augment:
    """Random flips, crops, scales and colours of an image and its boxes.

    The dtype stays the same; the size changes only by `longest` and `crops`.

    Args:
        longest: pictures with a longer side are shrunk to this length, pixels, before everything
            else. A model would do the same, but later augmentation is cheaper on fewer pixels. The
            sampling (bilinear, no antialiasing) is that of `detcore.parts.preprocess`. None keeps
            every size.
        mirror: probability of a left-right flip. 0 for writing.
        upside_down: probability of a top-bottom flip, for pictures without an up, such as
            microscopy or aerial views.
        colour: greatest relative change of brightness, contrast and saturation.
        scale: smallest and largest factor of a random zoom; the result is cropped at random, or
            placed on a mean-coloured ground. (1, 1) switches it off.
        rotate: greatest angle by which a picture is turned either way about its middle, degrees,
            with the corners that come in mean-coloured; for oriented boxes, which turn with it.
        crops: probability of SSD's crop (Liu et al., ECCV 2016; torchvision's RandomIoUCrop): 0.3
            to 1 of each side, such that it overlaps some box with at least a random IoU; in one
            case of seven the whole picture. Boxes whose centres are outside are dropped.
        mosaic: share of pictures that `mosaic` puts together from four. Only a loader does this,
            since it has the other three (`detcore.data.loading.loader`).
        least_visible: a box is dropped if a smaller share of it stays in the picture.

    Called with ``(image, target)``: uint8 or float ``[3, H, W]``, and either form of target from
    `detcore.data.base`; returns the same. ``area`` is recomputed from the boxes. Upright boxes are
    cut at the picture's border, oriented ones stay whole. ValueError for `rotate` with upright
    boxes.
    """

    mirror: float = 0.5
    upside_down: float = 0.0
    colour: float = 0.2
    scale: tuple[float, float] = (0.8, 1.25)
    rotate: float = 0.0
    least_visible: float = 0.3
    longest: int | None = None
    crops: float = 0.0
    mosaic: float = 0.0

    def __call__(self, image: Tensor, target: Target) -> Item:
        whole = boxes = target.get("boxes", torch.zeros(0, 4))
        if len(boxes) and self.crops > 0 and torch.rand(()) < self.crops:
            image, boxes = _crop(image, boxes)
        height, width = image.shape[-2:]
        canvas = _shrunk(height, width, self.longest)
        factor = _log_uniform(self.scale)
        scaled = [max(1, round(side * factor)) for side in canvas]
        steps: list[v2.Transform] = []
        if scaled != [height, width]:
            # shrinking and zooming in one: two samplings would blur
            steps.append(v2.Resize(scaled, antialias=False))
        fill = [float(c) for c in image[:, ::8, ::8].float().mean((1, 2))]
        if scaled != canvas:
            steps.append(v2.RandomCrop(canvas, pad_if_needed=True, fill=fill))
        if self.rotate:
            if boxes.shape[1] == 4 and len(boxes):
                raise ValueError("Augment: rotate turns oriented boxes, got upright ones")
            steps.append(v2.RandomRotation(self.rotate, InterpolationMode.BILINEAR, fill=fill))
        steps += [v2.RandomHorizontalFlip(self.mirror), v2.RandomVerticalFlip(self.upside_down)]
        if self.colour > 0:
            steps.append(v2.ColorJitter(self.colour, self.colour, self.colour))
        moved_image, moved = v2.Compose(steps)(tv_tensors.Image(image), _typed(boxes, image))
        image = moved_image.as_subclass(Tensor)
        if "boxes" not in target:
            return image, target
        uncut = scale_boxes(whole, (height, width), (scaled[0], scaled[1]))
        return image, _visible(target, moved.as_subclass(Tensor), uncut, image, self.least_visible)


def mosaic(
    items: Sequence[Item], *, longest: int | None = None, least_visible: float = 0.3
) -> Item:
    """One picture of four, each filling a quarter (Bochkovskiy et al., 2020, YOLOv4).

    Args:
        items: four of detection's, see `detcore.data.base`.
        longest, least_visible: as in `Augment`.

    Returns:
        A picture of the first one's size and dtype, with its ``image_id``. The quarters meet at a
        point drawn from the middle third; each picture is scaled until it covers its quarter, and
        cut there at random. Boxes are cut with it.
    """
    first, told = items[0]
    height, width = first.shape[-2:]
    height, width = (max(2, side) for side in _shrunk(height, width, longest))
    across, down = ((torch.rand(2) + 1) / 3).tolist()
    x, y = max(1, int(across * width)), max(1, int(down * height))
    canvas = first.new_empty(first.shape[0], height, width)
    quarters = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    parts = []
    for (image, target), (x0, y0, x1, y1) in zip(items, quarters, strict=True):
        part, kept = _cover(image, target, (y1 - y0, x1 - x0), least_visible)
        canvas[:, y0:y1, x0:x1] = part
        kept["boxes"] = shifted(kept["boxes"], x0, y0)
        parts.append(kept)
    keys = [k for k in ("boxes", "labels", "iscrowd", "area") if all(k in p for p in parts)]
    return canvas, {**told, **{k: torch.cat([p[k] for p in parts]) for k in keys}}


def _cover(
    image: Tensor, target: Target, wanted: tuple[int, int], least: float
) -> tuple[Tensor, Target]:
    """A random part of the scaled picture, of the (height, width) wanted, and the boxes in it."""
    height, width = image.shape[-2:]
    scale = max(wanted[0] / height, wanted[1] / width)
    scaled = [max(w, round(side * scale)) for w, side in zip(wanted, (height, width), strict=True)]
    top, left = (int(torch.randint(s - w + 1, ())) for s, w in zip(scaled, wanted, strict=True))
    # antialiased: pictures are halved and more, thin strokes would break up
    whole = resized(image, scaled)
    uncut = scale_boxes(target["boxes"], (height, width), (scaled[0], scaled[1]))
    part = whole[:, top : top + wanted[0], left : left + wanted[1]]
    return part, _visible(target, shifted(uncut, -left, -top), uncut, part, least)


def _crop(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """SSD's crop; a box that it drops comes back without area."""
    height, width = image.shape[-2:]
    if min(height, width) < 4:
        return image, boxes  # three tenths of it are no pixel
    typed = tv_tensors.BoundingBoxes(enclosing(boxes), format="XYXY", canvas_size=(height, width))
    chosen = v2.RandomIoUCrop().make_params([tv_tensors.Image(image), typed])
    if not chosen:
        return image, boxes  # the whole picture
    top, left = chosen["top"], chosen["left"]
    part = image[:, top : top + chosen["height"], left : left + chosen["width"]]
    moved = shifted(boxes, -left, -top)
    if boxes.shape[1] == 4:
        moved = clip_boxes_to_image(moved, (part.shape[-2], part.shape[-1]))
    return part, moved * chosen["is_within_crop_area"][:, None]


def _visible(target: Target, boxes: Tensor, uncut: Tensor, image: Tensor, least: float) -> Target:
    """The target with moved boxes; those mostly outside the picture are dropped.

    uncut: the boxes as large as in the picture, wherever they are.
    """
    height, width = image.shape[-2:]
    if boxes.shape[1] == 5:
        picture = boxes.new_tensor([[width / 2, height / 2, width, height, 0.0]])
        area, whole = box_area(boxes, "cxcywhr"), box_area(uncut, "cxcywhr")
        shared = shared_areas(boxes, picture)[:, 0]
        keep = (shared >= least * whole) & (boxes[:, 2:4] >= 1).all(1)
    else:
        boxes = clip_boxes_to_image(boxes, (height, width))
        area, whole = box_area(boxes), box_area(uncut)
        keep = (area >= least * whole) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    kept: Target = {k: target[k][keep] for k in ("labels", "iscrowd") if k in target}
    return {**target, **kept, "boxes": boxes[keep], "area": area[keep]}


def _typed(boxes: Tensor, image: Tensor) -> tv_tensors.BoundingBoxes:
    size = image.shape[-2], image.shape[-1]
    if boxes.shape[1] == 5:
        # never clamped: torchvision would make an oriented box smaller, or another one, for it
        return tv_tensors.BoundingBoxes(
            boxes, format="CXCYWHR", canvas_size=size, clamping_mode=None
        )
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)


def _shrunk(height: int, width: int, longest: int | None) -> list[int]:
    """Height and width with the longer side at most `longest`, other than `FitWithin` never a pixel
    short of it: the model would resize once more."""
    shrink = min(1.0, (longest or max(height, width)) / max(height, width))
    return [max(1, int(side * shrink + 1e-6)) for side in (height, width)]


def _log_uniform(bounds: tuple[float, float]) -> float:
    low, high = bounds
    return float(low * (high / low) ** torch.rand(()).item())
