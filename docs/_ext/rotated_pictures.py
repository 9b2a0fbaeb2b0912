"""The pictures of ops of rotated boxes and boxes in space; `op_pictures` draws them too."""

import torch
from drawing import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    new_figure,
    picture,
    sample_photo,
    scene,
    without_frame,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor

from detcore import ops


def _draw_rotated(axes: Axes, box: Tensor, colour: str, text: str = "", alpha: float = 1) -> None:
    """One cxcywhr box, and a text at its second corner."""
    corners = ops.box_convert(box, "cxcywhr", "xyxyxyxy").view(4, 2)
    axes.add_patch(
        Polygon(corners.tolist(), fill=False, edgecolor=colour, linewidth=1.6, alpha=alpha)
    )
    axes.text(*corners[1].tolist(), text, color=colour, fontsize=8)


@picture
def box_iou_rotated() -> Figure:
    """Two rotated boxes, and their IoU while one of them turns."""
    figure, (left, right) = new_figure(1, 1, height=2.8)
    fixed = torch.tensor([[50.0, 42, 60, 18, 20]])
    angle = torch.linspace(-90, 90, 181)
    turned = torch.cat((fixed[:, :4].expand(len(angle), 4), angle[:, None]), 1)
    scene(left, 100, 85, "a box of 60 x 18 at 20 degrees, and turned")
    for degrees, colour in ((20, BLUE), (50, ORANGE), (-60, GREEN)):
        box = torch.cat((fixed[0, :4], torch.tensor([float(degrees)])))
        _draw_rotated(left, box, colour, text=f"{degrees}")
    right.plot(angle, ops.box_iou(turned, fixed, "cxcywhr"), color=BLUE, linewidth=1.8)
    for degrees, colour in ((50, ORANGE), (-60, GREEN)):
        right.axvline(degrees, color=colour, linewidth=1)
    without_frame(right)
    right.set(
        xlabel="angle of the other, degrees", title='box_iou(a, b, "cxcywhr")', ylim=(0, 1.05)
    )
    return figure


@picture
def rotated_losses() -> Figure:
    """Losses of rotated boxes while one turns about its centre, and while it slides away."""
    figure, (left, right) = new_figure(1, 1, height=2.8)
    fixed = torch.tensor([[0.0, 0, 60, 18, 0]])
    angle, shift = torch.linspace(-90, 90, 181), torch.linspace(0, 90, 181)
    turned, slid = fixed.repeat(181, 1), fixed.repeat(181, 1)
    turned[:, 4], slid[:, 0] = angle, shift
    for axes, x, moved in ((left, angle, turned), (right, shift, slid)):
        still = fixed.expand_as(moved)
        losses = {
            "1 - IoU": 1 - ops.paired_box_iou(moved, still, "iou", fmt="cxcywhr"),
            "1 - GIoU": 1 - ops.paired_box_iou(moved, still, "giou", fmt="cxcywhr"),
            "probiou_loss": ops.probiou_loss(moved, still),
            "kfiou_loss": ops.kfiou_loss(moved, still),
        }
        for (name, values), colour in zip(losses.items(), COLOURS, strict=False):
            axes.plot(x, values, color=colour, linewidth=1.8, label=name)
        without_frame(axes)
    left.set(xlabel="angle of one box, degrees", title="two boxes of 60 x 18 at one place")
    right.set(xlabel="distance along the width, pixels", title="slid apart")
    right.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


@picture
def nms_rotated() -> Figure:
    """Rotated candidates in three places, and those that are kept."""
    figure, (left, right) = new_figure(1, 1)
    torch.manual_seed(3)
    places = torch.tensor([[30.0, 30, 44, 12, 30], [70, 52, 44, 12, -40], [32, 68, 30, 14, 80]])
    boxes = places.repeat_interleave(6, 0)
    boxes = boxes + torch.randn(len(boxes), 5) * torch.tensor([1.5, 1.5, 2, 1, 5])
    scores = 0.3 + 0.65 * torch.rand(len(boxes))
    keep = ops.nms_rotated(boxes, scores, 0.3)
    scene(left, 110, 92, f"{len(boxes)} candidates")
    scene(right, 110, 92, f"nms_rotated(boxes, scores, 0.3) keeps {len(keep)}")
    for box, score in zip(boxes, scores, strict=True):
        _draw_rotated(left, box, BLUE, alpha=float(score) ** 2)
        _draw_rotated(right, box, GREY, alpha=0.4)
    for i in keep:
        _draw_rotated(right, boxes[i], GREEN, text=f"{scores[i]:.2f}")
    return figure


@picture
def roi_align_rotated() -> Figure:
    """A rotated region of a photo, its samples, and what is pooled."""
    figure, (whole, near, pooled) = new_figure(1.5, 1, 1, height=2.4)
    photo, roi = sample_photo(), torch.tensor([[0.0, 350, 195, 220, 130, 35]])
    bins, ratio = 7, 2
    rows = torch.arange(427.0)[:, None].expand(427, 640)
    columns = torch.arange(640.0)[None].expand(427, 640)
    places = torch.stack((columns, rows))[None]  # pixels that tell their own place
    samples = ops.roi_align_rotated(places, roi, bins * ratio, 1.0, 1)[0]
    corners = ops.box_convert(roi[:, 1:], "cxcywhr", "xyxyxyxy").view(4, 2)
    start, end = ops.roi_align_rotated(places, roi, (1, 2), 1.0, 1)[0, :, 0].T.tolist()
    for axes, title in ((whole, "a photo and one region"), (near, "its bins' samples")):
        axes.imshow(photo[0].permute(1, 2, 0))
        axes.plot(*corners[[0, 1, 2, 3, 0]].T, color="white", linewidth=1.5)
        axes.set(xticks=[], yticks=[], title=title)
    near.plot(*samples.flatten(1), ".", color=BLUE, markersize=2.5)
    near.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "white", "lw": 1.5})
    left, top = (corners.amin(0) - 4).tolist()
    right, bottom = (corners.amax(0) + 4).tolist()
    near.set(xlim=(left, right), ylim=(bottom, top))
    result = ops.roi_align_rotated(photo, roi, bins, 1.0, ratio)
    pooled.imshow(result[0].permute(1, 2, 0).clamp(0, 1))
    pooled.set(xticks=[], yticks=[], title="pooled: [1, 3, 7, 7]")
    return figure


def _draw_from_above(
    axes: Axes, box: Tensor, colour: str, text: str = "", alpha: float = 1
) -> None:
    """One box in space as seen from above, and a text at its centre."""
    x, y, _, dx, dy, _, yaw = box.tolist()
    seen = torch.tensor([x, y, dx, dy, -yaw * 180 / torch.pi])
    corners = ops.box_convert(seen, "cxcywhr", "xyxyxyxy").view(4, 2)
    axes.add_patch(
        Polygon(corners.tolist(), fill=False, edgecolor=colour, linewidth=1.6, alpha=alpha)
    )
    axes.text(x, y, text, color=colour, fontsize=8, ha="center", va="center")


def _ground(axes: Axes, width: float, height: float, title: str) -> None:
    """A scene with y upwards, in metres."""
    scene(axes, width, height, title)
    axes.set_ylim(0, height)


def _parked(each: int) -> tuple[Tensor, Tensor]:
    """Candidates [N, 7] around four cars, and their scores [N]."""
    torch.manual_seed(4)
    cars = torch.tensor(
        [[5.0, 6, 0, 4.2, 1.9, 1.6, 0.3], [12, 11, 0, 4.2, 1.9, 1.6, 1.2],
         [17, 4, 0, 5.5, 2.1, 2.2, -0.4], [21, 12, 0, 4.0, 1.8, 1.5, 0.0]]
    )  # fmt: skip
    boxes = cars.repeat_interleave(each, 0)
    boxes = boxes + torch.randn(len(boxes), 7) * torch.tensor([0.3, 0.3, 0.1, 0.2, 0.1, 0.1, 0.1])
    return boxes, 0.3 + 0.65 * torch.rand(len(boxes))


@picture
def box3d_iou() -> Figure:
    """Two boxes from above, and both IoUs while one of them is raised."""
    figure, (left, right) = new_figure(1, 1, height=2.8)
    first = torch.tensor([[6.0, 4.5, 0.8, 4.2, 1.9, 1.6, 0.0]])
    second = torch.tensor([[6.6, 4.8, 0.8, 4.2, 1.9, 1.6, 0.35]])
    _ground(left, 12, 9, "two cars from above")
    for box, colour in ((first[0], BLUE), (second[0], ORANGE)):
        _draw_from_above(left, box, colour)
    height = torch.linspace(-2, 2, 161)
    raised = second.repeat(len(height), 1)
    raised[:, 2] += height
    for function, colour in ((ops.box3d_iou, BLUE), (ops.bev_iou, GREEN)):
        iou = function(raised, first)
        right.plot(height, iou, color=colour, label=function.__name__, linewidth=1.8)
    without_frame(right)
    right.set(xlabel="metres by which one is raised", title="IoU of the two", ylim=(0, 1.05))
    right.legend(frameon=False, labelcolor="linecolor")
    return figure


@picture
def nms_3d() -> Figure:
    """Candidates of parked cars, and those that are kept."""
    figure, (left, right) = new_figure(1, 1)
    boxes, scores = _parked(6)
    keep = ops.nms_bev(boxes, scores, 0.2)
    _ground(left, 26, 16, f"{len(boxes)} candidates")
    _ground(right, 26, 16, f"nms_bev(boxes, scores, 0.2) keeps {len(keep)}")
    for box, score in zip(boxes, scores, strict=True):
        _draw_from_above(left, box, BLUE, alpha=float(score) ** 2)
        _draw_from_above(right, box, GREY, alpha=0.4)
    for i in keep:
        _draw_from_above(right, boxes[i], GREEN, text=f"{scores[i]:.2f}")
    return figure


@picture
def points_in_boxes() -> Figure:
    """A cloud of points, and how many of them are in each box."""
    figure, (axes,) = new_figure(1)
    boxes, _ = _parked(1)
    points = torch.rand(700, 3) * torch.tensor([26.0, 16.0, 1.0]) - torch.tensor([0, 0, 0.5])
    found = ops.points_in_boxes(points, boxes)
    _ground(axes, 26, 16, "points_in_boxes(points, boxes)")
    outside = points[found.box_of_point < 0]
    axes.plot(outside[:, 0], outside[:, 1], ".", color=GREY, markersize=2)
    for i, box in enumerate(boxes):
        colour = COLOURS[i % len(COLOURS)]
        inside = points[found.box_of_point == i]
        axes.plot(inside[:, 0], inside[:, 1], ".", color=colour, markersize=3)
        _draw_from_above(axes, box, colour)
        count = int(found.points_of_box[i])
        axes.text(
            *(box[:2] + torch.tensor([0, 2.6])).tolist(), f"{count} points",
            color=colour, fontsize=8, ha="center",
        )  # fmt: skip
    return figure
