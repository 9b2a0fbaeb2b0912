"""The losses of the four models, each over flat rows of predictions.

What each is divided by, a number of samples, is `loss_normalizer`'s: where several processes train
one model, the samples of all count.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from detcore.ops import complete_box_iou_loss, paired_box_iou

from .angle_coder import angle_loss
from .processes import loss_normalizer


def rpn_loss(
    logits: Tensor, deltas: Tensor, positive: Tensor, negative: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Objectness and box loss of a region proposal network (Ren et al., 2015).

    logits [N], deltas [N, 4] over a batch's anchors; positive [P] and negative [Q]: the sampled
    ones' indices; targets [P, 4]: the positives' deltas. Both are means over P + Q samples, smooth
    L1 with beta 1/9 as torchvision has it. Without samples both are 0, with a gradient of 0.
    """
    samples = torch.cat((positive, negative))
    label = torch.zeros(len(samples), device=logits.device, dtype=logits.dtype)
    label[: len(positive)] = 1
    count = loss_normalizer(len(samples), logits.device)
    objectness = F.binary_cross_entropy_with_logits(logits[samples], label, reduction="sum")
    box = F.smooth_l1_loss(deltas[positive], targets, beta=1 / 9, reduction="sum")
    return objectness / count, box / count


def box_head_loss(
    logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Class and box loss of a box head (Girshick, Fast R-CNN, 2015).

    logits [R, K], deltas [R, K * V] class-major, labels int64 [R] (0: background), targets [R, V]
    deltas, read where the label is not 0. Cross entropy is a mean over R; smooth L1 (beta 1/9)
    of the true class's deltas is a sum over the positives, divided by R.

    Of a box that deltas can say in several ways targets are [R, ways, V], and the cheapest counts.
    """
    count = loss_normalizer(len(labels), logits.device)
    classes = F.cross_entropy(logits, labels, reduction="sum") / count
    positive = torch.where(labels > 0)[0]
    own = deltas.view(*logits.shape, targets.shape[-1])[positive, labels[positive]]
    wanted = targets[positive]
    if targets.dim() == 3:
        each = F.smooth_l1_loss(
            own[:, None].expand_as(wanted), wanted, beta=1 / 9, reduction="none"
        )
        # the index of one of equal ways, where amin would pull half towards each
        box = each.sum(dim=2).min(dim=1).values.sum()
    else:
        box = F.smooth_l1_loss(own, wanted, beta=1 / 9, reduction="sum")
    return classes, box / count


def orienting_loss(
    values: Tensor, positive: Tensor, targets: Tensor, boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """Box and angle loss of the step from upright regions to oriented boxes.

    values [R, 8] of the sampled regions, four deltas and the angle's code; positive int64 [P]:
    those on an object; targets [P, 4]: their deltas; boxes [P, 5] (cxcywhr): their ground truths.
    Smooth L1 (beta 1/9) as a sum over the positives, divided by R as in `box_head_loss`; and
    `angle_loss`, a mean over P.
    """
    count = loss_normalizer(len(values), values.device)
    own = values[positive]
    box = F.smooth_l1_loss(own[:, :4], targets, beta=1 / 9, reduction="sum")
    return box / count, angle_loss(own[:, 4:], boxes)


def ssd_loss(
    logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor, negative_ratio: float = 3.0
) -> tuple[Tensor, Tensor]:
    """Class and box loss of SSD with hard negative mining (Liu et al., 2016).

    logits [B, N, K], deltas [B, N, 4], labels int64 [B, N] (0: background), targets [B, N, 4]
    deltas, read where the label is not 0. Of each image's negatives the costliest `negative_ratio`
    for each positive count. Sums over the batch, divided by its number of positives (at least 1).
    """
    positive = labels > 0
    count = loss_normalizer(positive.sum(), logits.device)
    box = F.smooth_l1_loss(deltas[positive], targets[positive], reduction="sum")
    cost = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # [B, N]
    hard = hardest(cost.detach(), ~positive, negative_ratio * positive.sum(dim=1))
    return cost[positive | hard].sum() / count, box / count


def hardest(cost: Tensor, allowed: Tensor, count: Tensor) -> Tensor:
    """bool [B, N]: in each row the `count` [B] allowed entries of the highest cost.

    Ties go to the lower index. An image without objects asks for none and so gets none.
    """
    ranked = torch.where(allowed, cost, float("-inf"))
    rank = ranked.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return allowed & (rank < count[:, None])


def yolo_loss(
    boxes: Tensor,
    objectness: Tensor,
    classes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    positive: Tensor,
    quality: Tensor,
    ignored: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Box, objectness and class loss of a YOLO (after Ge et al., YOLOX, 2021).

    Over a batch's N predictions, cells or anchors: boxes [N, 4] xyxy or [N, 5] cxcywhr, pixels,
    objectness logits [N], class logits [N, C]. positive int64 [P]: the assigned ones; gt_boxes [P,
    4 or 5], gt_labels int64 [P]
    in 0..C - 1, quality [P] (the IoU now): theirs; ignored int64 [Q]: those that are taught no
    objectness, none of them positive. Objectness learns the quality, so that the score ranks boxes
    by how well they fit; its cross entropy is given without the quality's own entropy, which no
    prediction can undercut. Sums divided by P (at least 1); the box loss is 1 - CIoU, of oriented
    boxes 1 - GIoU.
    """
    count = loss_normalizer(len(positive), objectness.device)
    if boxes.shape[1] == 5:
        box = (1 - paired_box_iou(boxes[positive], gt_boxes, kind="giou", fmt="cxcywhr")).sum()
    else:
        box = complete_box_iou_loss(boxes[positive], gt_boxes, reduction="sum")
    wanted = torch.zeros_like(objectness)
    wanted[positive] = quality.to(wanted.dtype)
    taught = None
    if ignored is not None:
        taught = torch.ones_like(objectness)
        taught[ignored] = 0
    presence = F.binary_cross_entropy_with_logits(objectness, wanted, taught, reduction="sum")
    presence = presence - (torch.special.entr(quality) + torch.special.entr(1 - quality)).sum()
    own = F.one_hot(gt_labels, classes.shape[-1]).to(classes.dtype)
    naming = F.binary_cross_entropy_with_logits(classes[positive], own, reduction="sum")
    return box / count, presence / count, naming / count


def classification_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of logits [B, C] against int64 [B], or the binary one against [B, C].

    smoothing: label smoothing of the former (Szegedy et al., 2016). 0 without rows.
    """
    count = loss_normalizer(labels.numel(), logits.device)
    if labels.dim() == 2:
        wanted = labels.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / count
    return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum") / count
