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
                places[room] = (3.0 * (k - (len(rooms) - 1) / 2), float(height))
        for room, (x, y) in places.items():
            axes.text(
                x, y, room, ha="center", va="center", color=ink, fontsize=11,
                bbox={"boxstyle": "round,pad=0.35", "facecolor": fill, "edgecolor": line},
            )  # fmt: skip
        for room, targets in edges.items():
            for target in targets:
                (x0, y0), (x1, y1) = places[room], places[target]
                # a longer arrow bends around the rooms between
                bend = 0.0 if y0 - y1 <= 1 or x0 != x1 else 0.12 * (y0 - y1) / 2
                axes.annotate(
                    "", (x1, y1 + 0.24), (x0, y0 - 0.24),
                    arrowprops={"arrowstyle": "->", "color": line, "linewidth": 1.1, "alpha": 0.9,
                                "connectionstyle": f"arc3,rad={bend}", "shrinkA": 0, "shrinkB": 0},
                )  # fmt: skip
        axes.set(xlim=(-4.2, 4.2), ylim=(-0.6, len(HOUSE["FLOORS"]) - 0.4))
        axes.axis("off")
        out = io.BytesIO()
        figure.savefig(out, dpi=125, transparent=True)
        plt.close(figure)
        yield f"floors-{theme}.png", out.getvalue()
