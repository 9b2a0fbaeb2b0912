"""Light augmentation of an image with its target, by torchvision.transforms.v2.

Randomness comes from torch's global generator; `detcore.data.loader` seeds it for every item, so
that an item's augmentation doesn't hang on how many workers there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detcore.data.base import Item, Target


@dataclass(frozen=True)
class Augment:
    """Mirror, scale jitter and colour jitter; the dtype stays as it is, and the size but for one.

    Args:
        longest: pictures with a longer side than this, in pixels, come out with this one: what a
            model would do itself, done before all else is four times cheaper at half the size.
            The rule and the sampling (bilinear, no antialiasing) are `FitWithin`'s in
            `detcore.parts.preprocess`. None keeps every size.
        mirror: probability of a left-right flip. 0 for writing.
        upside_down: probability of a top-bottom flip, for pictures without an up, such as
            microscopy or aerial views.
        colour: greatest relative change of brightness, contrast and saturation.
        scale: the least and greatest factor of a zoom; the result is cropped at random, or set
            on a mean-coloured ground. (1, 1) switches it off.
        least_visible: a box of which a smaller share than this stays in the picture is dropped.

    Called with ``(image, target)``: uint8 or float ``[3, H, W]``, and either form of target from
    `detcore.data.base`; returns the same. ``area`` is recomputed from the boxes.
    """

    mirror: float = 0.5
    upside_down: float = 0.0
    colour: float = 0.2
    scale: tuple[float, float] = (0.8, 1.25)
    least_visible: float = 0.3
    longest: int | None = None

    def __call__(self, image: Tensor, target: Target) -> Item:
        height, width = image.shape[-2:]
        boxes = target.get("boxes", torch.zeros(0, 4))
        shrink = min(1.0, (self.longest or max(height, width)) / max(height, width))
        canvas = [max(1, int(side * shrink + 1e-6)) for side in (height, width)]
        factor = _log_uniform(self.scale)
        scaled = [max(1, round(side * factor)) for side in canvas]
        steps: list[v2.Transform] = []
        if scaled != [height, width]:
            # shrinking and zooming in one: two samplings would blur
            steps.append(v2.Resize(scaled, antialias=False))
        if scaled != canvas:
            fill = [float(c) for c in image[:, ::8, ::8].float().mean((1, 2))]
            steps.append(v2.RandomCrop(canvas, pad_if_needed=True, fill=fill))
        uncut = boxes * torch.tensor([scaled[1] / width, scaled[0] / height] * 2)
        steps += [v2.RandomHorizontalFlip(self.mirror), v2.RandomVerticalFlip(self.upside_down)]
        if self.colour > 0:
            steps.append(v2.ColorJitter(self.colour, self.colour, self.colour))
        typed = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
        image, moved = v2.Compose(steps)(tv_tensors.Image(image), typed)
        image = image.as_subclass(Tensor)
        if "boxes" not in target:
            return image, target
        return image, _visible(target, moved.as_subclass(Tensor), uncut, self.least_visible)


def _visible(target: Target, boxes: Tensor, uncut: Tensor, least: float) -> Target:
    """The target with moved boxes; those mostly outside the picture are dropped."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    whole = (uncut[:, 2] - uncut[:, 0]) * (uncut[:, 3] - uncut[:, 1])
    keep = (area >= least * whole) & (boxes[:, 2] - boxes[:, 0] >= 1)
    keep &= boxes[:, 3] - boxes[:, 1] >= 1
    kept: Target = {k: target[k][keep] for k in ("labels", "iscrowd") if k in target}
    return {**target, **kept, "boxes": boxes[keep], "area": area[keep]}


def _log_uniform(bounds: tuple[float, float]) -> float:
    low, high = bounds
    return float(low * (high / low) ** torch.rand(()).item())
