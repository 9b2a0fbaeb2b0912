"""The picture of the example for driving work: drawn by the example itself."""

import runpy
from pathlib import Path

from drawing import picture
from matplotlib.figure import Figure

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples/kitti_birdseye.py"))


@picture
def kitti_birdseye() -> Figure:
    """Boxes of a built-in scene from above, and which of them suppression keeps."""
    figure: Figure = EXAMPLE["draw"](EXAMPLE["read"](None))
    return figure
