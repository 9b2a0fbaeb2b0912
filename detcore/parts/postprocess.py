"""From decoded boxes and scores to detections: the same for every detector."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detcore.ops import batched_nms, clip_boxes_to_image, multiclass_nms, remove_small_boxes

from .preprocess import ImageBatch, Size, scale_boxes


class Postprocess:
    """Score threshold, top-k a class, clipping, per-class NMS, top-k an image.

    Args:
        score_threshold: only scores above it count.
        iou_threshold: of the NMS, which compares boxes of one class only. None: no NMS, for a head
            that gives one box an object; the best of all boxes and classes come out.
        candidates_per_class: how many of a class's best scores reach the NMS; unread without one.
        max_detections: how many come out, over all classes.
        min_size: boxes with a shorter side, in pixels, are left out.
        first_label: the label of the first column of scores; 1 where the background has none.

    __call__(boxes, scores, size): boxes [N, 4], or [N, C, 4] with a box a class, xyxy in pixels;
    scores [N, C] in 0..1; size: the image's height and width, which boxes are clipped to. Gives
    boxes [K, 4] float, scores [K] descending, labels [K] int64. Boxes that are small, infinite or
    NaN and NaN scores never come out and take nobody's place. Raises ValueError for shapes that do
    not fit. Equal scores, and the rest of the rule: `detcore.ops.multiclass_nms`. Deterministic.
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

    def __call__(self, boxes: Tensor, scores: Tensor, size: Size) -> dict[str, Tensor]:
        if scores.dim() != 2 or boxes.shape not in ((len(scores), 4), (*scores.shape, 4)):
            raise ValueError(
                "Postprocess: boxes and scores must be [N, 4] or [N, C, 4] and [N, C], "
                f"got {list(boxes.shape)} and {list(scores.shape)}"
            )
        return self._of_images(boxes[None], scores[None], [size])[0]

    def batch(
        self,
        boxes: Tensor | Sequence[Tensor],
        scores: Tensor | Sequence[Tensor],
        batch: ImageBatch,
    ) -> list[dict[str, Tensor]]:
        """One dict an image, boxes in the pixels of the images that were given.

        boxes and scores: as `__call__` takes them, in the batch's pixels; one of each an image, or
        all stacked into one tensor, which takes a single call.
        """
        if isinstance(boxes, Tensor) and isinstance(scores, Tensor):
            detections = self._of_images(boxes, scores, batch.sizes)
        else:
            images = zip(boxes, scores, batch.sizes, strict=True)
            detections = [self(*image) for image in images]
        for i, found in enumerate(detections):
            found["boxes"] = scale_boxes(found["boxes"], batch.sizes[i], batch.original_sizes[i])
        return detections

    @torch.no_grad()
    def _of_images(
        self, boxes: Tensor, scores: Tensor, sizes: Sequence[Size]
    ) -> list[dict[str, Tensor]]:
        limits = boxes.new_tensor([(w, h, w, h) for h, w in sizes])
        limits = limits.view(-1, *[1] * (boxes.dim() - 2), 4)
        # one NaN leaves a box out: 0 * inf is one, and a small box is given one
        clipped = boxes.clamp(min=0).minimum(limits).add_(boxes * 0)
        sides = clipped[..., 2:] - clipped[..., :2]
        clipped[..., 2:].masked_fill_(sides < self.min_size, math.nan)
        found = self._select(clipped, scores)
        return [
            {
                "boxes": box[:count],
                "scores": score[:count],
                "labels": label[:count] + self.first_label,
            }
            for box, score, label, count in zip(*found[:3], found[3].tolist(), strict=True)
        ]

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
        iou_threshold: of the NMS. min_size: boxes with a shorter side, in pixels, are left out.

    __call__(boxes, logits, size): two lists over levels, [N_l, 4] xyxy in pixels and [N_l]; size:
    the image's height and width. Gives boxes [K, 4], clipped, best first, without gradient.
    """

    def __init__(
        self,
        before_nms: int = 1000,
        after_nms: int = 300,
        iou_threshold: float = 0.7,
        *,
        min_size: float = 0.01,
    ) -> None:
        self.before_nms = before_nms
        self.after_nms = after_nms
        self.iou_threshold = iou_threshold
        self.min_size = min_size

    @torch.no_grad()
    def __call__(self, boxes: Sequence[Tensor], logits: Sequence[Tensor], size: Size) -> Tensor:
        best = [level.topk(min(self.before_nms, len(level))) for level in logits]
        score = torch.cat([b.values for b in best])
        box = torch.cat([level[b.indices] for level, b in zip(boxes, best, strict=True)])
        level = torch.cat([torch.full_like(b.indices, i) for i, b in enumerate(best)])
        sound = box.isfinite().all(dim=1) & ~score.isnan()
        box, score, level = clip_boxes_to_image(box[sound], size), score[sound], level[sound]
        keep = remove_small_boxes(box, self.min_size)
        box, score, level = box[keep], score[keep], level[keep]
        return box[batched_nms(box, score, level, self.iou_threshold)[: self.after_nms]]


def _best_of_all(
    boxes: Tensor, scores: Tensor, score_threshold: float, max_per_image: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`multiclass_nms` without the NMS and its candidates: same arguments, results and ties.

    boxes [B, N, 4] or [B, N, C, 4], scores [B, N, C]. Gives boxes [B, K, 4], scores [B, K], labels
    int64 [B, K] and counts int64 [B] with K = max_per_image. Nothing syncs.
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
    box = flat.gather(1, where[..., None].expand(-1, -1, 4)).masked_fill(~found[..., None], 0)
    label = torch.where(found, index // max(n, 1), -1)
    rest = max_per_image - count
    return (
        F.pad(box, (0, 0, 0, rest)),
        F.pad(best.masked_fill(~found, 0), (0, rest)),
        F.pad(label, (0, rest), value=-1),
        found.sum(dim=1),
    )
