"""Fuse the boxes that several models, or several views of an image, agree on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ._derivatives import not_differentiable
from ._fake import one_device
from ._route import bind, numpy_too

_weighted_boxes_fusion = bind("weighted_boxes_fusion")


@numpy_too
def weighted_boxes_fusion(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    labels: Sequence[Tensor],
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.55,
    skip_box_threshold: float = 0.0,
    conf_type: str = "avg",
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted boxes fusion (Solovyev, Wang and Gabruseva, 2021): boxes that agree become one.

    Unlike NMS it drops no box: each joins the fused box that it overlaps most, whose coordinates
    are the mean of its members', weighted by their scores.

    Args:
        boxes: one [N, 4] per model or view, xyxy in pixels of one image, any real dtype.
        scores: one [N] per model, at least 0; higher is better.
        labels: one [N] per model, integers; only boxes of equal labels are fused.
        weights: one positive number per model, by which its scores count; None: 1 each.
        iou_threshold: a box joins a fused box if their IoU is above this; at least 0.
        skip_box_threshold: boxes with a score below this are left out.
        conf_type: how scores of fused boxes come from those of their members: "avg", their mean,
            lowered where fewer boxes than models agree; "max"; "box_and_model_avg", the mean times
            the share of the models that agree; "absent_model_aware_avg", a mean in which models
            that found nothing count as 0.

    Returns:
        boxes [K, 4], scores [K] and labels int64 [K], by descending score; equal scores by label,
        then by the score of the first member. Boxes and scores are float64 if some are, otherwise
        float32. Nothing has a gradient.

    Raises:
        ValueError: for lists of different lengths, a wrong shape or dtype, tensors on several
            devices, a weight that is not positive, or an unknown conf_type.

    Edge cases:
        Of equal scores the earlier model, then the lower index comes first; of equal IoUs the fused
        box that began first is joined. Boxes with a number that is not finite are left out. Boxes
        without area overlap nothing and stay alone. Boxes are not clipped.

    Cost:
        Each box is compared with the fused boxes of its label: memory O(N). Computed in float64.
        Deterministic on every device and number of threads. On CUDA one count is read back (one
        host-device sync).

    Equivalents:
        ensemble_boxes.weighted_boxes_fusion of PyPI, which takes boxes of 0 to 1 alone, clips them,
        and leaves boxes without area out; its `iou_thr` and `skip_box_thr` are the thresholds here.

    Example:
        >>> import torch
        >>> from detcore.ops import weighted_boxes_fusion
        >>> first, second = torch.tensor([[10., 10, 50, 50]]), torch.tensor([[12., 10, 52, 50]])
        >>> sure, unsure, car = torch.tensor([0.9]), torch.tensor([0.3]), torch.tensor([2])
        >>> weighted_boxes_fusion([first, second], [sure, unsure], [car, car])
        (tensor([[10.5000, 10.0000, 50.5000, 50.0000]]), tensor([0.6000]), tensor([2]))

    See Also:
        `batched_nms`, which keeps the best box of each place; `soft_nms`.
    """
    boxes, scores, labels = _lists(boxes, scores, labels)
    models = len(boxes)
    weights = [1.0] * models if weights is None else [float(weight) for weight in weights]
    if len(weights) != models:
        raise ValueError(
            f"weighted_boxes_fusion: weights must be {models}, one per model, got {len(weights)}"
        )
    all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
    double = torch.float64 in (all_boxes.dtype, all_scores.dtype)
    result = torch.float64 if double else torch.float32
    all_boxes, all_scores, all_labels = all_boxes.double(), all_scores.double(), torch.cat(labels)
    model = torch.cat([torch.full_like(own, m) for m, own in enumerate(labels)])
    weight = torch.cat([torch.full_like(own, w, dtype=torch.float64)
                        for w, own in zip(weights, scores, strict=True)])  # fmt: skip
    order = (all_scores * weight).argsort(descending=True, stable=True)
    # gather and index_select, since indexing wakes torch's threads, which a busy machine delays
    order = order.gather(0, all_labels.gather(0, order).argsort(stable=True))
    fused, score, label = _weighted_boxes_fusion(
        all_boxes, all_scores, weight, all_labels, model, order, weights, iou_threshold,
        skip_box_threshold, conf_type,
    )  # fmt: skip
    best = score.argsort(descending=True, stable=True)
    fused, score = fused.index_select(0, best), score.gather(0, best)
    return fused.to(result), score.to(result), label.gather(0, best)


def _lists(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], labels: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The lists, whose shapes, devices and dtypes fit each other."""
    op = "weighted_boxes_fusion"
    lists = {"boxes": list(boxes), "scores": list(scores), "labels": list(labels)}
    count = len(lists["boxes"])
    if count == 0:
        raise ValueError(f"{op}: boxes must have a tensor per model, got none")
    for name, tensors in lists.items():
        if len(tensors) != count:
            raise ValueError(
                f"{op}: {name} must be {count} tensors, as boxes is, got {len(tensors)}"
            )
    for m, (box, score, label) in enumerate(zip(*lists.values(), strict=True)):
        if box.dim() != 2 or box.shape[1] != 4:
            raise ValueError(f"{op}: boxes[{m}] must be [N, 4], got {list(box.shape)}")
        for name, column in (("scores", score), ("labels", label)):
            if column.shape != box.shape[:1]:
                raise ValueError(
                    f"{op}: {name}[{m}] must be {list(box.shape[:1])}, one per box, "
                    f"got {list(column.shape)}"
                )
        if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
            got = str(label.dtype).removeprefix("torch.")
            raise ValueError(f"{op}: labels[{m}] must be integers, got {got}")
        first = lists["boxes"][0]
        one_device(op, **{"boxes[0]": first, f"boxes[{m}]": box, f"scores[{m}]": score,
                          f"labels[{m}]": label})  # fmt: skip
    return lists["boxes"], lists["scores"], [label.long() for label in lists["labels"]]


@torch.library.register_fake("detcore::weighted_boxes_fusion")
def _(
    boxes: Tensor,
    scores: Tensor,
    weights: Tensor,
    labels: Tensor,
    models: Tensor,
    order: Tensor,
    model_weights: list[float],
    iou_threshold: float,
    skip_box_threshold: float,
    conf_type: str,
) -> tuple[Tensor, Tensor, Tensor]:
    one_device("weighted_boxes_fusion", boxes=boxes, scores=scores, weights=weights)
    one_device("weighted_boxes_fusion", boxes=boxes, labels=labels, models=models, order=order)
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        boxes.new_empty((count, 4)),
        boxes.new_empty((count,)),
        boxes.new_empty((count,), dtype=torch.int64),
    )


not_differentiable("weighted_boxes_fusion", "detach its boxes and scores")
