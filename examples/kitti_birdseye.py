"""From KITTI's boxes to `nms_3d`, and a bird's-eye picture of what it keeps and drops.

    python examples/kitti_birdseye.py                               # a small scene of its own
    python examples/kitti_birdseye.py results/000008.txt --iou 0.1 --out birdseye.png

The file is a label or a result file of KITTI's object benchmark; labels count as found, score 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor

from detcore.data.faults import Faults
from detcore.data.readers.kitti_labels import LABEL, RESULT, KittiObjects, parse_objects
from detcore.ops import nms_3d
from detcore.utils.atomic_write import atomic
from detcore.utils.errors import UserError
from detcore.utils.user_files import read_text

COLOURS = {"car": "#2f81c7", "pedestrian": "#e08a1e", "cyclist": "#3a9d5d"}
OTHER, DROPPED = "#9467bd", "#8a8f98"  # readable on white and on black

# What a detector might give before suppression: several boxes around each of seven objects.
SCENE = """\
Car -1 -1 -1.29 303.1 180.6 477.4 292.6 1.50 1.65 4.10 -3.40 1.65 12.00 -1.57 0.87
Car -1 -1 -1.27 320.6 174.7 491.9 280.8 1.54 1.68 4.14 -3.32 1.58 12.65 -1.53 0.74
Car -1 -1 -1.12 297.4 185.3 497.6 291.8 1.42 1.61 4.06 -3.34 1.67 12.25 -1.39 0.59
Car -1 -1 -1.36 411.5 176.4 515.0 245.8 1.55 1.70 4.30 -3.60 1.65 18.50 -1.55 0.73
Car -1 -1 -1.34 413.5 175.9 523.2 249.8 1.56 1.67 4.20 -3.27 1.64 17.52 -1.53 0.65
Car -1 -1 1.46 680.2 179.5 748.4 234.1 1.48 1.62 3.90 3.10 1.70 22.00 1.60 0.76
Car -1 -1 1.41 671.5 179.8 742.1 231.6 1.47 1.59 3.90 2.99 1.70 22.92 1.54 0.66
Car -1 -1 1.37 668.7 181.6 749.7 236.2 1.45 1.72 3.53 2.87 1.73 21.51 1.51 0.69
Car -1 -1 -0.77 571.2 176.2 673.1 216.6 1.60 1.75 4.40 0.60 1.75 31.00 -0.75 0.89
Car -1 -1 -0.82 570.6 175.5 676.5 217.4 1.63 1.72 4.74 0.67 1.75 30.72 -0.80 0.67
Pedestrian -1 -1 -0.17 945.3 169.5 1010.9 288.7 1.75 0.60 0.80 5.60 1.70 11.00 0.30 0.81
Pedestrian -1 -1 -0.18 940.3 176.7 1011.3 287.7 1.66 0.74 0.87 5.70 1.72 11.27 0.29 0.61
Pedestrian -1 -1 -0.24 926.3 172.9 976.0 259.0 1.70 0.55 0.80 6.90 1.70 14.60 0.20 0.85
Cyclist -1 -1 1.81 359.5 170.1 395.1 230.7 1.73 0.60 1.80 -6.90 1.65 21.50 1.50 0.79
Cyclist -1 -1 1.70 365.2 168.9 394.6 231.0 1.78 0.62 1.75 -6.83 1.66 21.53 1.39 0.74
"""


def read(file: Path | None) -> KittiObjects:
    """The objects of a file that have a place in space; of the built-in scene without one.

    Raises:
        DataError: the file can't be read, or a line is not in KITTI's form.
    """
    lines = (SCENE if file is None else read_text(file)).splitlines()
    scored = all(len(line.split()) >= RESULT for line in lines if line.strip())
    name = Path("the built-in scene") if file is None else file
    found = parse_objects(name, lines, Faults(), RESULT if scored else LABEL)
    # DontCare regions, and results of the picture alone, have sides of -1
    return found.take(np.flatnonzero((found.boxes3d()[:, 3:6] > 0).all(1)))


def suppressed(found: KittiObjects, iou: float) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [n, 7] as `detcore.ops` takes them, their scores [n], and int64 [k]: which are kept."""
    boxes = torch.from_numpy(found.boxes3d())
    scores = torch.from_numpy(found.score).nan_to_num(1.0)  # a label has none
    return boxes, scores, nms_3d(boxes, scores, iou)


def outlines(boxes: Tensor) -> Tensor:
    """[n, 7] to [n, 4, 2]: the corners from above, x and y in metres, the two in front first."""
    x, y, _, length, width, _, yaw = boxes.unbind(1)
    along = torch.tensor([0.5, 0.5, -0.5, -0.5]) * length[:, None]
    across = torch.tensor([0.5, -0.5, -0.5, 0.5]) * width[:, None]
    cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
    turned = (cos * along - sin * across, sin * along + cos * across)
    return torch.stack((x[:, None] + turned[0], y[:, None] + turned[1]), 2)


def draw(found: KittiObjects, iou: float = 0.1) -> Figure:
    """The scene from above: what is kept in its class's colour with its score, the rest dashed."""
    boxes, scores, keep = suppressed(found, iou)
    corners, kept = outlines(boxes), set(keep.tolist())
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(found.names):
        colour = COLOURS.get(name.lower(), OTHER) if k in kept else DROPPED
        line = {"linewidth": 1.8} if k in kept else {"linewidth": 0.9, "linestyle": "--"}
        axes.add_patch(Polygon(corners[k].tolist(), fill=False, edgecolor=colour, **line))
        if k in kept:
            ends = torch.stack((corners[k].mean(0), corners[k, :2].mean(0)))
            axes.plot(*ends.T.tolist(), color=colour, linewidth=1.8)
            above = (ends[0, 0].item(), corners[k, :, 1].max().item() + 0.4)
            axes.annotate(f"{name} {scores[k]:.2f}", above, color=colour, fontsize=9, ha="center")
    far = max([10.0, *(corners[..., 0].amax(1) + 3).tolist()])
    side = max([8.0, *(corners[..., 1].abs().amax(1) + 2).tolist()])
    axes.plot(0, 0, ">", color=DROPPED, markersize=10)
    axes.annotate("camera", (0, 0.8), color=DROPPED, fontsize=9, ha="center")
    axes.set(xlim=(-2, far), ylim=(-side, side), aspect="equal")
    axes.set(xlabel="x: metres ahead", ylabel="y: metres to the left")
    axes.set_title(f"{len(boxes)} boxes, of which nms_3d(boxes, scores, {iou:g}) keeps {len(keep)}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what is kept, and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="a label or result file")
    parser.add_argument("--iou", type=float, default=0.1, help="above it a box is dropped")
    parser.add_argument("--out", type=Path, default=Path("birdseye.png"), help="the picture")
    given = parser.parse_args(arguments)
    try:
        found = read(given.file)
        boxes, scores, keep = suppressed(found, given.iou)
        for k in keep.tolist():
            ahead, left = boxes[k, :2].tolist()
            where = f"{ahead:5.1f} m ahead, {left:5.1f} m to the left"
            print(f"{found.names[k]:12} score {scores[k]:.2f}, {where}")
        with atomic(given.out) as aside:
            draw(found, given.iou).savefig(aside, dpi=110)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{len(boxes)} boxes, {len(keep)} kept; the picture is {given.out}")


if __name__ == "__main__":
    main()
