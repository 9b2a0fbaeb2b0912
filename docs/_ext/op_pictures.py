"""The picture of each op, drawn from real calls, once for light pages and once for dark ones.

python docs/_ext/op_pictures.py FOLDER
"""

import sys
from pathlib import Path

import rotated_pictures  # noqa: F401  (its pictures are drawn with these)
import torch
from drawing import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    RED,
    draw_box,
    new_figure,
    picture,
    pictures,
    sample_photo,
    scene,
    without_frame,
)
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from detcore import ops


def _clusters(centres: list[tuple[float, float]], each: int) -> tuple[Tensor, Tensor]:
    """Boxes [N, 4] that a detector might give around some objects, and their scores [N]."""
    middle = torch.tensor(centres).repeat_interleave(each, 0)
    middle = middle + 1.7 * torch.randn(len(middle), 2)
    size = torch.tensor([26.0, 22.0]) * (1 + 0.07 * torch.randn(len(middle), 2))
    boxes = torch.cat((middle - size / 2, middle + size / 2), 1)
    return boxes, 0.3 + 0.65 * torch.rand(len(middle))


# --- overlap --------------------------------------------------------------------------------------
@picture
def box_iou() -> Figure:
    """Two sets of boxes and the matrix of their IoUs."""
    figure, (left, right) = new_figure(1.1, 1)
    first = torch.tensor([[8.0, 10, 40, 40], [45, 40, 85, 75], [60, 8, 92, 30]])
    second = torch.tensor(
        [[12.0, 14, 46, 44], [44, 36, 80, 78], [30, 30, 62, 60], [70, 12, 96, 34]]
    )
    scene(left, 100, 85, "boxes1 (solid) and boxes2 (dashed)")
    for i, box in enumerate(first):
        draw_box(left, box, BLUE, text=f"{i}")
    for i, box in enumerate(second):
        draw_box(left, box, ORANGE, faint=True)
        left.text(box[2] - 1, box[3] + 1, f"{i}", color=ORANGE, fontsize=8, va="top", ha="right")
    iou = ops.box_iou(first, second)
    right.imshow(iou, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in (
        (tuple(k.tolist()), iou[tuple(k)]) for k in torch.ones_like(iou).nonzero()
    ):
        shade = "#ffffff" if value > 0.5 else "#1f2328"
        right.text(j, i, f"{value:.2f}", ha="center", va="center", color=shade)
    right.set(xticks=range(4), yticks=range(3), title="box_iou(boxes1, boxes2)")
    right.set(xlabel="index in boxes2", ylabel="index in boxes1")
    return figure


@picture
def overlap_measures() -> Figure:
    """What each measure says while one box slides away from the other, and while it is squeezed."""
    figure, (left, right) = new_figure(1, 1, height=2.8)
    fixed = torch.tensor([[0.0, 0, 10, 10]])
    kinds = dict(zip(("iou", "giou", "diou", "ciou"), COLOURS, strict=False))
    shift = torch.linspace(0, 25, 101)
    zero = torch.zeros_like(shift)
    slid = torch.stack((shift, zero, shift + 10, zero + 10), 1)
    ratio = torch.linspace(1, 6, 101)
    squeezed = torch.stack((zero, zero, 10 * ratio.sqrt(), 10 / ratio.sqrt()), 1)
    for axes, x, moved in ((left, shift, slid), (right, ratio, squeezed)):
        for kind, colour in kinds.items():
            style = "--" if kind in ("diou", "giou") else "-"
            values = ops.paired_box_iou(fixed.expand_as(moved), moved, kind)
            axes.plot(x, values, style, color=colour, label=kind, linewidth=1.8)
        without_frame(axes)
        axes.axhline(0, color=GREY, linewidth=0.6)
    left.set(xlabel="shift in pixels of a box of 10 x 10", title="a box slides away")
    right.set(xlabel="width / height, area kept", title="a box is squeezed")
    left.legend(frameon=False, labelcolor="linecolor")
    return figure


# --- suppression ----------------------------------------------------------------------------------
@picture
def nms() -> Figure:
    """All candidates of a detector, and those that are kept."""
    figure, (left, right) = new_figure(1, 1)
    boxes, scores = _clusters([(25, 25), (72, 30), (32, 68), (45, 62), (85, 72)], 7)
    keep = ops.nms(boxes, scores, 0.5)
    scene(left, 110, 92, f"{len(boxes)} candidates")
    scene(right, 110, 92, f"nms(boxes, scores, 0.5) keeps {len(keep)}")
    for box, score in zip(boxes, scores, strict=True):
        left.add_patch(Rectangle(
            box[:2].tolist(), *(box[2:] - box[:2]).tolist(), fill=False, edgecolor=BLUE,
            alpha=float(score) ** 2, linewidth=1.2,
        ))  # fmt: skip
        draw_box(right, box, GREY, faint=True)
    for i in keep:
        draw_box(right, boxes[i], GREEN, text=f"{scores[i]:.2f}")
    return figure


@picture
def weighted_boxes_fusion() -> Figure:
    """What three models say of two objects, and the fused boxes."""
    figure, (left, right) = new_figure(1, 1, height=2.7)
    torch.manual_seed(5)
    objects = torch.tensor([[12.0, 12, 48, 58], [58, 22, 98, 62]])
    boxes = [objects + 4 * torch.randn(2, 4) for _ in range(3)]
    scores = [torch.tensor([0.9, 0.5]), torch.tensor([0.6, 0.8]), torch.tensor([0.3, 0.4])]
    labels = [torch.zeros(2, dtype=torch.int64)] * 3
    fused, score, _ = ops.weighted_boxes_fusion(boxes, scores, labels, iou_threshold=0.4)
    scene(left, 110, 72, "three models")
    for own, points, colour in zip(boxes, scores, COLOURS, strict=False):
        for box, point in zip(own, points, strict=True):
            draw_box(left, box, colour, text=f"{point:.1f}")
    scene(right, 110, 72, "fused (green), and the best by nms (grey)")
    every, points = torch.cat(boxes), torch.cat(scores)
    for box in every[ops.nms(every, points, 0.4)]:
        draw_box(right, box, GREY, faint=True)
    for box, point in zip(fused, score, strict=True):
        draw_box(right, box, GREEN, text=f"{point:.2f}")
    return figure


@picture
def batched_nms() -> Figure:
    """Two classes at the same place do not suppress each other."""
    figure, (left, right) = new_figure(1, 1, height=2.7)
    boxes = torch.tensor([[10.0, 12, 50, 60], [13, 15, 54, 62], [15, 8, 52, 57], [62, 20, 96, 62]])
    scores, classes = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 1, 1])
    for axes, keep, title in (
        (left, ops.nms(boxes, scores, 0.5), "nms(boxes, scores, 0.5)"),
        (right, ops.batched_nms(boxes, scores, classes, 0.5), "batched_nms(..., classes, 0.5)"),
    ):
        scene(axes, 104, 70, title)
        for i, box in enumerate(boxes):
            kept = i in keep
            colour = (BLUE, ORANGE)[classes[i]]
            draw_box(axes, box, colour, text=f"{scores[i]:.1f}" if kept else "", faint=not kept)
    right.text(103, 69, "blue: class 0, orange: class 1", ha="right", va="bottom", fontsize=8)
    return figure


@picture
def soft_nms() -> Figure:
    """How scores decay beside a selected box."""
    figure, (left, right) = new_figure(1, 1.25)
    offsets = torch.tensor([0.0, 4, 9, 15, 22, 46])
    boxes = torch.stack((10 + offsets, 20 + 0 * offsets, 50 + offsets, 60 + 0 * offsets), 1)
    scores = torch.tensor([0.95, 0.9, 0.85, 0.8, 0.75, 0.7])
    scene(left, 110, 80, "six boxes, the first is the best")
    for i, box in enumerate(boxes):
        draw_box(left, box, COLOURS[i % 5], text=f"{i}")
    width = 0.27
    right.bar(torch.arange(6) - width, scores, width, color=GREY, label="scores given")
    for k, (method, colour) in enumerate((("linear", BLUE), ("gaussian", ORANGE))):
        keep, decayed = ops.soft_nms(boxes, scores, method=method)
        right.bar(keep + k * width, decayed, width, color=colour, label=f"after {method}")
    right.set(xlabel="box", ylabel="score", title="soft_nms(boxes, scores)", ylim=(0, 1.3))
    right.legend(frameon=False, ncols=3, loc="upper right", fontsize=8)
    without_frame(right)
    return figure


@picture
def multiclass_nms() -> Figure:
    """Scores of boxes and classes, and which become detections."""
    figure, (left, right) = new_figure(1, 1.3)
    boxes, _ = _clusters([(26, 28), (80, 50)], 6)
    scores = 0.28 * torch.rand(len(boxes), 3)
    scores[:6, 0] += 0.55
    scores[6:, 2] += 0.55
    scores[:6, 0] += 0.1 * torch.rand(6)
    scores[8, 1] = 0.7
    found, best, labels, counts = ops.multiclass_nms(boxes[None], scores[None], 0.3, 0.5)
    left.imshow(scores, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    left.set(xticks=range(3), xlabel="class", ylabel="box", title="scores [N, C]")
    kept = list(zip(best[0, : counts[0]].tolist(), labels[0].tolist(), strict=False))
    for score, label in kept:
        row = int((scores[:, label] - score).abs().argmin())
        left.add_patch(Rectangle(
            (label - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=2
        ))  # fmt: skip
    scene(right, 110, 82, f"{int(counts[0])} detections (red cells)")
    for box in boxes:
        draw_box(right, box, GREY, faint=True)
    for box, score, label in zip(found[0], best[0], labels[0], strict=False):
        if label >= 0:
            draw_box(right, box, COLOURS[label], text=f"class {int(label)}: {score:.2f}")
    return figure


# --- matching -------------------------------------------------------------------------------------
@picture
def match_boxes() -> Figure:
    """A grid of anchors, and which ground truth each goes with."""
    figure, (left, right) = new_figure(1, 1)
    y, x = torch.meshgrid(torch.arange(12, 84, 12.0), torch.arange(12, 108, 12.0), indexing="ij")
    centres = torch.stack((x.flatten(), y.flatten()), 1)
    anchors = torch.cat((centres - 11, centres + 11), 1)
    gt = torch.tensor([[14.0, 14, 44, 40], [62, 34, 100, 70]])
    found = ops.match_boxes(gt, anchors)
    scene(left, 114, 90, "the best ground truth of each anchor's centre")
    iou = found.iou_of_anchor
    for i, box in enumerate(gt):
        draw_box(left, box, COLOURS[i], text=f"ground truth {i}")
        mine = (found.gt_of_anchor == i) & (iou > 0)
        left.scatter(*centres[mine].T, s=8 + 90 * iou[mine], color=COLOURS[i])
    left.scatter(*centres[iou == 0].T, s=6, color=GREY)
    left.text(113, 89, "size of a dot: IoU", ha="right", va="bottom", fontsize=8)
    scene(right, 114, 90, "the best anchor of each ground truth")
    for i, box in enumerate(gt):
        draw_box(right, box, COLOURS[i])
        best = int(found.anchor_of_gt[i])
        draw_box(right, anchors[best], COLOURS[i], text=f"IoU {found.iou_of_gt[i]:.2f}", faint=True)
    return figure


# --- coding ---------------------------------------------------------------------------------------
@picture
def box_codec() -> Figure:
    """An anchor, the box that it is moved onto, and the four deltas."""
    figure, (left, right) = new_figure(1, 1)
    anchor, box = torch.tensor([[15.0, 25, 55, 65]]), torch.tensor([[38.0, 15, 92, 60]])
    deltas = ops.encode_boxes(box, anchor)
    scene(left, 105, 80, "encode_boxes(box, anchor)")
    draw_box(left, anchor[0], GREY, text="anchor", faint=True)
    draw_box(left, box[0], BLUE, text="box")
    start, end = (((b[:2] + b[2:]) / 2).tolist() for b in (anchor[0], box[0]))
    left.annotate(
        "", end, start, arrowprops={"arrowstyle": "->", "color": ORANGE, "linewidth": 1.6}
    )
    dx, dy, dw, dh = deltas[0].tolist()
    left.text(2, 79, f"dx {dx:.2f}  dy {dy:.2f}  dw {dw:.2f}  dh {dh:.2f}", va="bottom", fontsize=8)
    scene(right, 105, 80, "decode_boxes(share * deltas, anchor)")
    draw_box(right, anchor[0], GREY, text="0", faint=True)
    for share, colour in ((0.33, GREEN), (0.67, ORANGE), (1.0, BLUE)):
        draw_box(right, ops.decode_boxes(share * deltas, anchor)[0], colour, text=f"{share:g}")
    return figure


@picture
def decode_dense() -> Figure:
    """The same raw map, read by three codecs."""
    figure, axes = new_figure(1, 1, 1, height=2.5)
    raw = 0.45 * torch.randn(1, 5, 3, 4)
    anchors = {"delta": torch.tensor([[-9.0, -6, 9, 6]]), "grid": None, "ltrb": None}
    for codec, here in zip(anchors, axes, strict=True):
        maps = raw.clone() if codec == "grid" else raw[:, :4].clone()
        if codec == "ltrb":
            maps = maps.abs()
        boxes, _ = ops.decode_dense(maps, anchors[codec], 16, codec)
        scene(here, 64, 48, f'codec "{codec}"')
        for k in range(5):
            here.axvline(16 * k, color=GREY, linewidth=0.4)
            here.axhline(16 * min(k, 3), color=GREY, linewidth=0.4)
        for i, box in enumerate(boxes[0]):
            cell = torch.tensor([i % 4, i // 4]) * 16 + 8
            here.plot(*cell, "+", color=GREY, markersize=5)
            draw_box(here, box, COLOURS[i % 5])
        here.set(xlim=(-8, 72), ylim=(56, -8))
    return figure


# --- pooling --------------------------------------------------------------------------------------
@picture
def roi_align() -> Figure:
    """A region of a photo, its bins and samples, and what is pooled."""
    figure, (whole, near, pooled) = new_figure(1.5, 1, 1, height=2.4)
    photo, roi = sample_photo(), torch.tensor([[0.0, 250, 95, 450, 295]])
    whole.imshow(photo[0].permute(1, 2, 0))
    draw_box(whole, roi[0, 1:], "#ffffff")
    whole.set(xticks=[], yticks=[], title="a photo and one region")
    # where the samples lie: pooled from maps whose pixels tell their own place
    bins, ratio = 7, 2
    rows = torch.arange(427.0)[:, None].expand(427, 640)
    columns = torch.arange(640.0)[None].expand(427, 640)
    places = ops.roi_align(torch.stack((columns, rows))[None], roi, bins * ratio, 1.0, 1)[0]
    near.imshow(photo[0].permute(1, 2, 0))
    x1, y1, x2, y2 = roi[0, 1:].tolist()
    for k in range(bins + 1):
        near.axvline(x1 + k * (x2 - x1) / bins, color="white", linewidth=0.7)
        near.axhline(y1 + k * (y2 - y1) / bins, color="white", linewidth=0.7)
    near.plot(*places.flatten(1), ".", color=BLUE, markersize=2.5)
    near.set(xlim=(x1 - 2, x2 + 2), ylim=(y2 + 2, y1 - 2), xticks=[], yticks=[])
    near.set_title("7 x 7 bins, 4 samples each")
    result = ops.roi_align(photo, roi, bins, 1.0, ratio)
    pooled.imshow(result[0].permute(1, 2, 0).clamp(0, 1))
    pooled.set(xticks=[], yticks=[], title="roi_align: [1, 3, 7, 7]")
    return figure


@picture
def roi_pool() -> Figure:
    """A region of a small map, its bins of whole pixels, and the pixel that each of them takes."""
    figure, (whole, near, pooled) = new_figure(1, 1, 1, height=2.4)
    generator = torch.Generator().manual_seed(3)
    values, roi = (
        torch.rand(1, 1, 12, 16, generator=generator),
        torch.tensor([[0, 2.7, 1.8, 12, 9]]),
    )
    rows, columns, shown = 3, 4, {"cmap": "viridis", "vmin": 0, "vmax": 1}
    for axes, title in ((whole, "a map and one region"), (near, "its bins and their maxima")):
        axes.imshow(values[0, 0], **shown)
        axes.set(xticks=[], yticks=[], title=title)
    draw_box(whole, roi[0, 1:], "#ffffff")
    # a map whose pixels tell their own place, and the others hide, tells the edges of a bin
    edges = torch.cat((torch.arange(12.0)[:, None].expand(12, 16)[None],
                       torch.arange(16.0)[None].expand(12, 16)[None]))  # fmt: skip
    high = ops.roi_pool(edges[None], roi, (rows, columns))[0]
    low = -ops.roi_pool(-edges[None], roi, (rows, columns))[0]
    for y1, x1, y2, x2 in torch.cat((low, high)).flatten(1).T.tolist():
        draw_box(near, torch.tensor([x1 - 0.4, y1 - 0.4, x2 + 0.4, y2 + 0.4]), "#ffffff")
    result = ops.roi_pool(values, roi, (rows, columns))[0, 0]
    for best in result.flatten():
        y, x = (values[0, 0] == best).nonzero()[0].tolist()
        near.plot(x, y, "o", color=COLOURS[1], markersize=4)
    pooled.imshow(result, **shown)
    pooled.set(xticks=[], yticks=[], title="roi_pool: [1, 1, 3, 4]")
    return figure


@picture
def multiscale_roi_align() -> Figure:
    """Regions of many sizes, coloured by the level that they are pooled from."""
    figure, (left, right) = new_figure(1.3, 1)
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    # maps that hold the number of their level tell which one was read
    levels = [torch.full((1, 1, int(640 * s), int(640 * s)), 2.0 + i) for i, s in enumerate(scales)]
    sides = torch.tensor([40.0, 90, 150, 250, 420, 560])
    low = torch.tensor([[20.0, 20], [75, 30], [180, 40], [350, 30], [20, 190], [70, 70]])
    boxes = torch.cat((low, low + sides[:, None]), 1)
    level = ops.multiscale_roi_align(levels, [boxes], 1, scales, 2)[:, 0, 0, 0].round().int()
    scene(left, 650, 650, "boxes by their level")
    for box, one in zip(boxes, level.tolist(), strict=True):
        draw_box(left, box, COLOURS[one - 2], text=f"P{one}")
    side = torch.logspace(1.2, 2.8, 200)
    many = torch.stack((torch.zeros(200), torch.zeros(200), side, side), 1)
    chosen = ops.multiscale_roi_align(levels, [many], 1, scales, 2)[:, 0, 0, 0].round()
    right.plot(side, chosen, color=BLUE, linewidth=2)
    right.set(
        xscale="log", xlabel="side of a square box, pixels", ylabel="level", yticks=range(2, 6)
    )
    right.set(title="the level of a box")
    right.minorticks_off()
    right.set_xticks([20, 56, 112, 224, 448], ["20", "56", "112", "224", "448"])
    without_frame(right)
    return figure


# --- losses and small functions -------------------------------------------------------------------
@picture
def losses() -> Figure:
    """The box losses over a shift, and the focal loss over the probability."""
    figure, (left, right) = new_figure(1, 1, height=2.7)
    shift = torch.linspace(0, 25, 101)
    zero = torch.zeros_like(shift)
    moved = torch.stack((shift, zero, shift + 10, zero + 8), 1)
    fixed = torch.tensor([0.0, 0, 10, 10]).expand_as(moved)
    for name, colour in zip(("generalized", "distance", "complete"), COLOURS, strict=False):
        loss = getattr(ops, f"{name}_box_iou_loss")(fixed, moved)
        left.plot(shift, loss, color=colour, label=f"{name}_box_iou_loss", linewidth=1.8)
    left.set(xlabel="shift in pixels of a box of 10 x 8", title="box losses")
    left.legend(frameon=False, labelcolor="linecolor", fontsize=8)
    probability = torch.linspace(0.01, 0.99, 99)
    logits = probability.logit()
    for gamma, colour in zip((0, 1, 2, 5), COLOURS, strict=False):
        loss = ops.sigmoid_focal_loss(logits, torch.ones(99), alpha=-1, gamma=gamma)
        right.plot(probability, loss, color=colour, label=f"gamma {gamma}", linewidth=1.8)
    right.set(
        xlabel="probability given to the right class", title="sigmoid_focal_loss", ylim=(0, 4)
    )
    right.legend(frameon=False, labelcolor="linecolor", fontsize=8)
    without_frame(left), without_frame(right)
    return figure


@picture
def boxes() -> Figure:
    """One box in three formats, and boxes clipped to an image."""
    figure, (left, right) = new_figure(1, 1, height=2.7)
    box = torch.tensor([22.0, 22, 82, 62])
    scene(left, 104, 82, "box_convert: one box, three formats")
    draw_box(left, box, BLUE)
    text = {"fontsize": 8, "va": "center"}
    for fmt, (x, y), colour in (("xyxy", (4, 12), BLUE), ("xywh", (4, 72), ORANGE)):
        numbers = ", ".join(f"{v:g}" for v in ops.box_convert(box, "xyxy", fmt).tolist())
        left.text(x, y, f"{fmt}: {numbers}", color=colour, **text)
    centre = ops.box_convert(box, "xyxy", "cxcywh").tolist()
    left.plot(centre[0], centre[1], "+", color=GREEN, markersize=9)
    left.text(
        *(centre[0], centre[1] + 8), f"cxcywh: {', '.join(f'{v:g}' for v in centre)}",
        color=GREEN, ha="center", **text,
    )  # fmt: skip
    left.plot(box[[0, 2]], box[[1, 3]], "o", color=BLUE, markersize=5)
    scene(right, 130, 100, "clip_boxes_to_image(boxes, (60, 90))")
    right.add_patch(Rectangle((20, 20), 90, 60, color=GREY, alpha=0.25))
    given = torch.tensor([[-14.0, 8, 30, 40], [60, 30, 104, 74], [40, -12, 62, 12]])
    for i, (one, cut) in enumerate(
        zip(given, ops.clip_boxes_to_image(given, (60, 90)), strict=True)
    ):
        draw_box(right, one + 20, COLOURS[i], faint=True)
        draw_box(right, cut + 20, COLOURS[i])
    return figure


if __name__ == "__main__":
    for name, content in pictures():
        (Path(sys.argv[1]) / name).write_bytes(content)
