"""From decoded boxes and scores to detections: the same for every detector."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from detcore.ops import multiclass_nms

from .box_forms import stretched
from .preprocess import ImageBatch, Size


class Detections(NamedTuple):
    """A batch's detections in shapes that don't depend on what was found.

    boxes [B, K, 4] xyxy, or [B, K, 5] cxcywhr, in the given images' pixels, scores [B, K]
    descending, labels int64
    [B, K]; counts int64 [B] tells how many of an image's rows are detections, beyond them stand
    zeros.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor

    def per_image(self) -> list[dict[str, Tensor]]:
        """Of each image a dict of its boxes [n, 4 or 5], scores [n] and labels [n]."""
        rows = zip(*self[:3], self.counts.tolist(), strict=True)
        return [{"boxes": b[:n], "scores": s[:n], "labels": v[:n]} for b, s, v, n in rows]


class Postprocess:
    """Score threshold, top-k per class, clipping, per-class NMS, top-k per image.

    Args:
        score_threshold: only scores above it count.
        iou_threshold: of the NMS, which compares boxes of one class only. None: no NMS, for a head
            that gives one box per object; the best of all boxes and classes come out.
        candidates_per_class: how many of a class's best scores reach the NMS; unread without one.
        max_detections: how many come out, over all classes.
        min_size: boxes with a shorter side, in pixels, are left out.
        first_label: the label of the first column of scores; 1 where the background has none.

    Attributes:
        published: the thresholds are those that the model was published with, by which it is to be
            measured too (`detcore.evaluation.thresholds`). The rest of the attributes are the
            arguments; all may be set.

    __call__(boxes, scores, batch): boxes [B, N, 4], or [B, N, C, 4] with one per class, xyxy in the
    batch's pixels; scores [B, N, C] in 0..1. Boxes are clipped to their image and brought to the
    given image's pixels. Rotated boxes have five numbers, cxcywhr, and are left whole; one whose
    centre is outside its image doesn't count. Gives `Detections` of K = max_detections rows. Boxes
    that are small, infinite or NaN and NaN scores never come out and take nobody's place. Raises
    ValueError for shapes that do not fit. Equal scores, and the rest of the rule:
    `detcore.ops.multiclass_nms`.
    No shape depends on the data and nothing is read back, so the whole can be exported.
    Deterministic.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        iou_threshold: float | None = 0.5,
        candidates_per_class: int = 400,
        max_detections: int = 100,
        *,
        min_size: float = 0.01,
        first_label: int = 1,
    ) -> None:
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.candidates_per_class = candidates_per_class
        self.max_detections = max_detections
        self.min_size = min_size
        self.first_label = first_label
        self.published = False

    def __call__(self, boxes: Tensor, scores: Tensor, batch: ImageBatch) -> Detections:
        rows, images = tuple(scores.shape[:2]), len(batch.sizes)
        numbers = 5 if boxes.shape[-1] == 5 else 4
        shapes = ((*rows, numbers), (*scores.shape, numbers))
        if scores.dim() != 3 or len(scores) != images or tuple(boxes.shape) not in shapes:
            raise ValueError(
                f"Postprocess: for {images} images boxes and scores must be [{images}, N, 4] or "
                f"[{images}, N, C, 4] and [{images}, N, C], "
                f"got {list(boxes.shape)} and {list(scores.shape)}"
            )
        # detached here, and not under no_grad, which an exported graph cannot be saved with
        boxes, scores = boxes.detach(), scores.detach()
        found = self._select(clip_boxes(boxes, batch.sizes, self.min_size), scores)
        ratios = boxes.new_tensor(batch.ratios).view(images, 1, 4)
        labels = found[2] + self.first_label
        return Detections(stretched(found[0], ratios), found[1], labels, found[3])

    def _select(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `detcore.ops.multiclass_nms` gives them: boxes, scores, labels, counts."""
        if self.iou_threshold is None:
            return _best_of_all(boxes, scores, self.score_threshold, self.max_detections)
        return multiclass_nms(
            boxes,
            scores,
            self.score_threshold,
            self.iou_threshold,
            self.candidates_per_class,
            self.max_detections,
        )


class ProposalSelector:
    """The best boxes of a region proposal network (Ren et al., 2015; a level at a time as in FPN).

    Args:
        before_nms: how many of each level's best reach the NMS, which stays within a level.
        after_nms: how many come out, over all levels.
        iou_threshold: of the NMS.
        score_threshold: the least probability of an object.
        min_size: boxes with a shorter side, in pixels, are left out.

    __call__(boxes, logits, sizes): two lists over levels, [B, N_l, 4] xyxy in the batch's pixels
    and [B, N_l]; sizes: each image's height and width. Gives boxes [B, K, 4], clipped, best first,
    and counts int64 [B]; rows beyond an image's count are zeros. No gradient; no shape depends on
    the data.
    """

    def __init__(
        self,
        before_nms: int = 1000,
        after_nms: int = 300,
        iou_threshold: float = 0.7,
        *,
        score_threshold: float = 0.0,
        min_size: float = 1e-3,
    ) -> None:
        self.before_nms = before_nms
        self.after_nms = after_nms
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold
        self.min_size = min_size

    def __call__(
        self, boxes: Sequence[Tensor], logits: Sequence[Tensor], sizes: Sequence[Size]
    ) -> tuple[Tensor, Tensor]:
        best = [level.detach().topk(min(self.before_nms, level.shape[1])) for level in logits]
        chosen = [
            level.detach().gather(1, b.indices[..., None].expand(-1, -1, 4))
            for level, b in zip(boxes, best, strict=True)
        ]
        # a level is a class of its own to the NMS; NaN never comes out
        scores = chosen[0].new_full((*torch.cat(chosen, dim=1).shape[:2], len(best)), math.nan)
        start = 0
        for i, level in enumerate(best):
            score = level.values.sigmoid().to(scores.dtype)
            below = score < self.score_threshold
            end = start + score.shape[1]
            scores[:, start:end, i] = score.masked_fill(below, math.nan)
            start = end
        found = multiclass_nms(
            clip_boxes(torch.cat(chosen, dim=1), sizes, self.min_size),
            scores,
            -1.0,  # the threshold was applied above, where a score equal to it stays
            self.iou_threshold,
            self.before_nms,
            self.after_nms,
        )
        return found[0], found[3]


def clip_boxes(boxes: Tensor, sizes: Sequence[Size], min_size: float) -> Tensor:
    """Boxes [B, ..., 4] clipped to their images, those that no NMS should see made NaN.

    sizes: of each image, height and width. NaN are boxes that are infinite or NaN and those with a
    side shorter than min_size after clipping. Rotated boxes [B, ..., 5] are not clipped, since what
    would be left is no rectangle: NaN are those whose centre is outside their image.
    """
    limits = boxes.new_tensor([(w, h, w, h) for h, w in sizes])
    limits = limits.view(len(sizes), *[1] * (boxes.dim() - 2), 4)
    if boxes.shape[-1] == 5:
        centre = boxes[..., :2]
        out = (boxes[..., 2:4] < min_size) | (centre < 0) | (centre > limits[..., :2])
        return (boxes + boxes * 0).masked_fill(out.any(dim=-1, keepdim=True), math.nan)
    # one NaN leaves a box out: 0 * inf is one, and a small box is given one
    clipped = boxes.clamp(min=0).minimum(limits).add_(boxes * 0)
    sides = clipped[..., 2:] - clipped[..., :2]
    clipped[..., 2:].masked_fill_(sides < min_size, math.nan)
    return clipped


def _best_of_all(
    boxes: Tensor, scores: Tensor, score_threshold: float, max_per_image: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`multiclass_nms` without the NMS and its candidates: same arguments, results and ties.

    boxes [B, N, 4] or [B, N, C, 4], or of five numbers, scores [B, N, C]. Gives boxes [B, K, 4 or
    5], scores [B, K], labels int64 [B, K] and counts int64 [B] with K = max_per_image. Nothing
    syncs.
    """
    batch, n = scores.shape[:2]
    nan = boxes.isnan().any(dim=-1)
    sound = (scores > score_threshold) & ~(nan if boxes.dim() == 4 else nan[:, :, None])
    # class-major, so that of equal scores the lower class comes first, then the lower box
    ranked = torch.where(sound, scores, -math.inf).transpose(1, 2).flatten(1)  # [B, C * N]
    count = min(max_per_image, ranked.shape[1])
    # topk leaves open which of equal scores it takes, and a stable sort of all is 15 times slower:
    # the last score is topk's, and of those that equal it the first ones fill up
    last = ranked.topk(count, dim=1).values[:, -1:]
    above, equal = ranked > last, ranked == last
    room = count - above.sum(dim=1, keepdim=True)
    kept = (above | (equal & (equal.cumsum(dim=1) <= room))).cumsum(dim=1)
    # the k-th entry kept is where their running number becomes k
    number = torch.arange(1, count + 1, device=kept.device).expand(batch, count).contiguous()
    index = torch.searchsorted(kept, number)
    best, order = ranked.gather(1, index).sort(dim=1, descending=True, stable=True)
    index = index.gather(1, order)

    found = best > -math.inf
    if boxes.dim() == 4:
        flat, where = boxes.transpose(1, 2).flatten(1, 2), index
    else:
        flat, where = boxes, index % max(n, 1)
    numbers = boxes.shape[-1]
    box = flat.gather(1, where[..., None].expand(-1, -1, numbers)).masked_fill(~found[..., None], 0)
    label = torch.where(found, index // max(n, 1), -1)
    rest = max_per_image - count
    return (
        F.pad(box, (0, 0, 0, rest)),
        F.pad(best.masked_fill(~found, 0), (0, rest)),
        F.pad(label, (0, rest), value=-1),
        found.sum(dim=1),
    )
