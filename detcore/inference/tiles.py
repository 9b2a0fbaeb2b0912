"""Small objects in large photos: prediction by overlapping tiles, and one answer out of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from detcore.data.base import Part as Box
from detcore.data.tiling import Tiles
from detcore.inference.predictor import Prediction, predict
from detcore.ops import batched_nms, batched_nms_rotated, box_area
from detcore.parts.box_forms import enclosing, format_of, shared_areas, shifted

__all__ = ["Tiles", "merge_tiles", "predict_tiled"]

# a box that comes this near to the border where its tile was cut, in pixels, is cut there
_RIM = 2.0
# the share of a cut box that another must cover to explain it
_EXPLAINED = 0.5
# cut boxes compared with all others at a time: a row a box, so that memory stays bounded
_ROWS = 1024


def predict_tiled(
    model: nn.Module,
    image: Tensor,
    *,
    tile: int | tuple[int, int] = 640,
    overlap: float = 0.2,
    batch_size: int = 8,
    whole: bool = True,
    iou_threshold: float = 0.5,
    device: torch.device | str = "cpu",
    score: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Detect in overlapping tiles of an image, and in the whole image, and merge the results.

    For small objects, which vanish when a model shrinks a large image. After Akyon et al., Slicing
    Aided Hyper Inference (ICIP 2022), with a merging rule of its own, see `merge_tiles`. An object
    should be smaller than the overlap, so that some tile holds all of it, or large enough to be
    found in the whole image.

    Args:
        model: a detector, on `device`; its training mode is restored afterwards.
        image: uint8 or float 0..1 ``[3, H, W]``. One no larger than a tile is predicted whole.
        tile: side of a tile in pixels, or its (height, width). The model resizes tiles as any
            image: tiles of its own image size keep objects as large as they are, tiles of half
            that size double them.
        overlap: the smallest share of a tile that its neighbour covers too, 0 to below 1.
        batch_size: tiles per call of the model.
        whole: predict the whole image as well.
        iou_threshold: threshold of the NMS that merges the results.
        device: where to compute.
        score: detections below this confidence are dropped before merging.
        progress: called with (pictures done, pictures in all), tiles and whole.

    Returns:
        One prediction as `predict` returns it, on the CPU, in the image's pixels, by descending
        score. The number of detections is not limited.

    Raises:
        ValueError: a tile or overlap that does not fit, or a model that gives no boxes.

    Deterministic on one device.
    """
    height, width = image.shape[-2:]
    boxes = Tiles(tile, overlap).of(height, width)
    everything = (0, 0, width, height)
    if boxes == [everything]:
        whole, boxes = True, []
    batches = [[everything]] if whole else []
    # the whole by itself: in a batch with it the tiles would be padded to its size
    batches += [boxes[k : k + batch_size] for k in range(0, len(boxes), batch_size)]
    found: list[Prediction] = []
    for batch in batches:
        pictures = [image[:, y0:y1, x0:x1] for x0, y0, x1, y1 in batch]
        found += predict(model, pictures, device=device, batch_size=batch_size, score=score)
        if "boxes" not in found[0]:
            raise ValueError("predict_tiled: model must be a detector, got one that gives no boxes")
        if progress:
            progress(len(found), len(boxes) + whole)
    seen = [box for batch in batches for box in batch]
    return merge_tiles(found, seen, (height, width), iou_threshold=iou_threshold)


def merge_tiles(
    predictions: list[Prediction],
    tiles: list[Box],
    size: tuple[int, int],
    *,
    iou_threshold: float = 0.5,
) -> Prediction:
    """One answer out of those of an image's tiles.

    A box that comes within 2 pixels of a border of its tile, unless the image ends there too, is
    cut: it shows a part of an object, or may. Of an oriented one the upright box around it counts.
    The rule:

    1. A cut box is dropped if an uncut one of its class covers more than half of its area: the
       object was seen whole in a neighbouring tile or in the whole image.
    2. Of the rest, cut and uncut alike, `batched_nms` keeps the best per class, of oriented boxes
       `batched_nms_rotated`.

    So a part that nothing explains stays, and a neighbour of the same class is not taken for the
    same object unless it lies over it. Which box explains does not depend on scores: drop what is
    not believed beforehand.

    Args:
        predictions: one per tile: ``boxes`` ``[n, 4]`` xyxy or ``[n, 5]`` cxcywhr in pixels of the
            tile, ``scores``, ``labels``, and any more tensors of n rows.
        tiles: where each lies in the image, xyxy in its pixels; the whole image may be one.
        size: the image's height and width.
        iou_threshold: of the NMS.

    Returns:
        The same keys, boxes in the image's pixels, by descending score, equal scores in the order
        of the tiles. Deterministic.
    """
    moved, cut = [], []
    for one, (x0, y0, x1, y1) in zip(predictions, tiles, strict=True):
        boxes = shifted(one["boxes"], x0, y0)
        moved.append({**one, "boxes": boxes})
        cut.append(_cut(enclosing(boxes), (x0, y0, x1, y1), size))
    merged = {key: torch.cat([one[key] for one in moved]) for key in moved[0]}
    keep = torch.where(~_explained(merged, torch.cat(cut)))[0]
    rest = {key: value[keep] for key, value in merged.items()}
    nms = batched_nms_rotated if rest["boxes"].shape[1] == 5 else batched_nms
    best = nms(rest["boxes"], rest["scores"], rest["labels"], iou_threshold)
    return {key: value[best] for key, value in rest.items()}


def _cut(boxes: Tensor, tile: Box, size: tuple[int, int]) -> Tensor:
    """[n] whether a box (in the image's pixels) reaches to where its tile ends, the image not."""
    x0, y0, x1, y1 = tile
    near = torch.zeros(len(boxes), dtype=torch.bool)
    for side, (border, end) in enumerate(((x0, 0), (y0, 0), (x1, size[1]), (y1, size[0]))):
        if border != end:
            # or beyond: oriented boxes are not clipped to the tile
            inside = boxes[:, side] - border if side < 2 else border - boxes[:, side]
            near |= inside <= _RIM
    return near


def _explained(found: Prediction, cut: Tensor) -> Tensor:
    """[n] whether a box is cut and an uncut one of its class covers enough of it."""
    explained = torch.zeros_like(cut)
    for label in found["labels"][cut].unique():
        mine = found["labels"] == label
        uncut = found["boxes"][mine & ~cut]
        if len(uncut) == 0:
            continue
        for rows in torch.where(mine & cut)[0].split(_ROWS):
            part = found["boxes"][rows]
            own = box_area(part, format_of(part))[:, None]
            explained[rows] = (shared_areas(part, uncut) > _EXPLAINED * own).any(dim=1)
    return explained
