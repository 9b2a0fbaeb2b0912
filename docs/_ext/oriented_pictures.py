"""The picture of oriented detection: turned digits with their boxes, and how angles are learned."""

import torch
from drawing import BLUE, GREEN, ORANGE, RED, new_figure, picture, without_frame
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from detcore.data import load
from detcore.ops import box_convert
from detcore.parts.angle_coder import AngleCoder


@picture
def oriented_digits() -> Figure:
    """A picture of the built-in set with its boxes, and the four numbers of every angle."""
    figure, (left, right) = new_figure(1, 1.5, height=2.9)
    image, target = load("digits", "val", oriented=True)[0]
    left.imshow(image.permute(1, 2, 0).numpy(), interpolation="bicubic")
    left.set(xticks=[], yticks=[], title="boxes with their angles")
    corners = box_convert(target["boxes"], "cxcywhr", "xyxyxyxy").view(-1, 4, 2)
    for box, points in zip(target["boxes"], corners, strict=True):
        left.add_patch(Polygon(points.tolist(), fill=False, edgecolor="white", linewidth=1.4))
        left.text(
            *box[:2].tolist(), f"{box[4]:.0f}°", color="white", fontsize=8, ha="center",
            bbox={"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1.5},
        )  # fmt: skip
    angles = torch.linspace(-90, 90, 181)
    boxes = torch.cat((torch.tensor([50.0, 50, 40, 10]).expand(181, 4), angles[:, None]), dim=1)
    names = ("cos 2a", "sin 2a", "cos 4a", "sin 4a")
    for values, name, colour in zip(
        AngleCoder().encode(boxes).T, names, (BLUE, ORANGE, GREEN, RED), strict=True
    ):
        right.plot(angles, values, color=colour, label=name)
    right.set(xticks=range(-90, 91, 45), xlabel="angle a, degrees", title="what is learned")
    without_frame(right)
    right.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.28))
    return figure
