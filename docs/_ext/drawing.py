"""What the ops' pictures are drawn with: colours, figures and boxes, and the list of pictures."""

import io
from collections.abc import Callable, Iterator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_sample_image
from torch import Tensor

# both read well on white and on black
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    *("#2f81c7", "#e08a1e", "#3a9d5d", "#d1495b", "#9467bd"),
    "#8a8f98",
)
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE)
INK = {"light": "#1f2328", "dark": "#d8dbdf"}

_DRAWN: dict[str, Callable[[], Figure]] = {}


def picture(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """Take a function up among the pictures, under its own name."""
    _DRAWN[draw.__name__] = draw
    return draw


def pictures() -> Iterator[tuple[str, bytes]]:
    """File name and PNG of every picture, in both colours."""
    for theme, ink in INK.items():
        colours = {f"{k}.color": ink for k in ("text", "xtick", "ytick")}
        style = {"axes.edgecolor": ink, "axes.labelcolor": ink, "axes.titlecolor": ink}
        more = {"font.size": 9, "axes.titlesize": 10, "savefig.transparent": True}
        with plt.rc_context({**colours, **style, **more}):
            for name, draw in _DRAWN.items():
                torch.manual_seed(0)
                figure, out = draw(), io.BytesIO()
                figure.savefig(out, dpi=125)
                plt.close(figure)
                yield f"{name}-{theme}.png", out.getvalue()


# --- what several pictures are made of ------------------------------------------------------------
def new_figure(*widths: float, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    """A figure with one plot per width, side by side."""
    figure, axes = plt.subplots(
        1, len(widths), figsize=(7.6, height), layout="constrained",
        gridspec_kw={"width_ratios": widths}, squeeze=False,
    )  # fmt: skip
    return figure, list(axes[0])


def scene(axes: Axes, width: float, height: float, title: str) -> None:
    """An empty picture, in pixels, y downwards."""
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal", title=title)


def draw_box(axes: Axes, box: Tensor, colour: str, *, text: str = "", faint: bool = False) -> None:
    """A box [4] (xyxy), with a text above it; faint: dashed and thin."""
    x1, y1, x2, y2 = box.tolist()
    line = {"linestyle": "--", "linewidth": 0.9, "alpha": 0.55} if faint else {"linewidth": 1.8}
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, **line))
    if text:
        axes.text(x1 + 1, y1 - 1.5, text, color=colour, fontsize=8, va="bottom")


def without_frame(axes: Axes) -> None:
    """Leave out the upper and the right line around a plot."""
    axes.spines[["top", "right"]].set_visible(False)


def sample_photo() -> Tensor:
    """[1, 3, 427, 640] in 0..1: scikit-learn's sample photo of a flower (CC BY, see the page)."""
    return torch.tensor(load_sample_image("flower.jpg")).permute(2, 0, 1)[None].float() / 255
