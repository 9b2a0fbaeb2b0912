"""The house's rooms and floors, from scripts/import_graph.py, which tests/test_floors.py holds."""

import io
import runpy
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HOUSE = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "import_graph.py"))
COLOURS = {"light": ("#1f2328", "#2f81c7", "#eef4fa"), "dark": ("#d8dbdf", "#6cb1ea", "#1b2733")}


def pictures() -> Iterator[tuple[str, bytes]]:
    """The floors, one above the other, and an arrow to each room that a room imports."""
    edges = HOUSE["direct"](HOUSE["rooms"](HOUSE["imports"]()))
    for theme, (ink, line, fill) in COLOURS.items():
        figure, axes = plt.subplots(figsize=(7.2, 8.2), layout="constrained")
        places = {}
        for height, rooms in enumerate(HOUSE["FLOORS"]):
            for k, room in enumerate(rooms):
                # one that reaches down past several floors stands aside
                reach = max((height - HOUSE["FLOOR_OF"][t] for t in edges[room]), default=0)
                aside = -3.2 if len(rooms) == 1 and reach > 4 else 0.0
                places[room] = (aside + 3.0 * (k - (len(rooms) - 1) / 2), float(height))
        for room, (x, y) in places.items():
            axes.text(
                x, y, room, ha="center", va="center", color=ink, fontsize=11, zorder=3,
                bbox={"boxstyle": "round,pad=0.35", "facecolor": fill, "edgecolor": line},
            )  # fmt: skip
        for room, targets in edges.items():
            for target in sorted(targets):
                (x0, y0), (x1, y1) = places[room], places[target]
                arrow = {"arrowstyle": "->", "color": line, "linewidth": 1.1, "shrinkA": 0}
                axes.annotate(
                    "", (x1, y1 + 0.24), (x0, y0 - 0.24), zorder=1,
                    arrowprops=arrow | {"shrinkB": 0, "connectionstyle": "arc3,rad=0"},
                )  # fmt: skip
        axes.set(xlim=(-4.4, 3.2), ylim=(-0.6, len(HOUSE["FLOORS"]) - 0.4))
        axes.axis("off")
        out = io.BytesIO()
        figure.savefig(out, dpi=125, transparent=True)
        plt.close(figure)
        yield f"floors-{theme}.png", out.getvalue()
