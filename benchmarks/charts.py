"""Draws the charts in benchmarks/results from the JSON files there.

python -m benchmarks.charts benchmarks/results
"""

import json
import sys
from math import log10
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from detcore.bench.table import best_other

OURS, OTHER, GOAL, FAINT = "#0b6e99", "#e0a458", "#222222", "#d8d8d8"
# each library has the same colour in every chart
COLOURS = {
    "detcore": OURS,
    "torchvision": "#c44536",
    "powerboxes": "#6a994e",
    "lsnms": "#8d6cab",
    "OpenVINO": "#e0a458",
    "ONNX Runtime": "#7a7a7a",
}


def draw_ratios(source: Path, out: Path) -> None:
    """One row per case: how many times faster ours is, with the goal as a tick."""
    results = json.loads(source.read_text())
    rows = [row for row in results["rows"] if row["device"] == "cpu"][::-1]
    figure, axes = plt.subplots(figsize=(11, 1.6 + 0.32 * len(rows)), layout="constrained")
    places = _places(rows)
    for y, row in zip(places, rows, strict=True):
        _draw_case(axes, y, row)
    names = [
        row["work"] + ("" if row["peer"] == "torchvision" else f" (peer: {row['peer']})")
        for row in rows
    ]
    axes.set_yticks(places, names, fontsize=9)
    axes.set_ylim(places[0] - 0.8, places[-1] + 0.8)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), high * 2)  # room for the text at the ends of the bars
    axes.axvline(1, color=GOAL, linewidth=0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}x"))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", top=True, labeltop=True)
    _plain(axes, "x")
    axes.bar(0, 0, color=OURS, label="faster than torchvision (or the peer named)")
    axes.bar(0, 0, color=OTHER, label="faster than the best other library")
    axes.plot([], [], "|", color=GOAL, markersize=11, markeredgewidth=2, label="goal")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axes.set_title("How many times faster detcore is\n", loc="left", fontweight="bold")
    figure.suptitle(results["machine"], x=0.01, ha="left", fontsize=9, color="#555555")
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _places(rows: list[dict[str, Any]]) -> list[float]:
    """One y per row, from below, with a gap between ops."""
    places, y = [], 0.0
    for i, row in enumerate(rows):
        if i:
            y += 1.0 if row["op"] == rows[i - 1]["op"] else 1.6
        places.append(y)
    return places


def _draw_case(axes: Axes, y: float, row: dict[str, Any]) -> None:
    ratio = row["times"].get(row["peer"])
    if ratio is None:
        return
    other = best_other(row)
    upper, height = (y + 0.19, 0.38) if other else (y, 0.5)
    goal = _goal(row)
    axes.barh(upper, ratio - 1, height, left=1, color=OURS)
    # put the text after the goal if that is near
    spot = goal if goal and ratio <= goal < 2.5 * ratio else ratio
    _write(axes, spot, upper, f"{_figure(ratio)}x", OURS)
    if goal:
        ends = [upper - height / 2 - 0.02, upper + height / 2 + 0.06]
        axes.plot([goal, goal], ends, color=GOAL, linewidth=2, zorder=3, solid_capstyle="butt")
    if other:
        times = row["times"][other]
        axes.barh(y - 0.19, times - 1, 0.38, left=1, color=OTHER)
        _write(axes, times, y - 0.19, f"{_figure(times)}x {other}", "#8a5a12")


def _write(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.annotate(
        text,
        (max(x, 1.0), y),
        (4, -0.5),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=colour,
    )


def _goal(row: dict[str, Any]) -> float | None:
    """The goal as a multiple of the peer's speed."""
    if "must" not in row:
        return None
    peer = row["runs"][row["peer"]]["ms"]
    most = {"times": None, "ms": 1.0, "limit": row.get("limit_ms")}[row["must_kind"]]
    return row["must_least"] if most is None else peer / (row["must_least"] * most)


def draw_scaling(source: Path, out: Path) -> None:
    """Time over the number of boxes, one line per library."""
    results = json.loads(source.read_text())
    figure, axes = plt.subplots(figsize=(8.5, 5.6), layout="constrained")
    for name, points in results["ms"].items():
        n, ms = [int(k) for k in points], list(points.values())
        colour, wide = COLOURS[name], name == "detcore"
        axes.plot(n, ms, "o-", color=colour, linewidth=2.6 if wide else 1.6, markersize=4.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(7, 1e6 * 12)  # room for the names
    axes.set_xlabel("boxes, uniform, density as 1,000 in 1,000 x 1,000 pixels")
    axes.set_xticks([10**k for k in range(1, 7)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: _duration(x)))
    _plain(axes, "y")
    _name_lines(axes, results["ms"])
    axes.set_title("Time of one nms call, IoU 0.5\n", loc="left", fontweight="bold")
    figure.suptitle(results["machine"], x=0.01, ha="left", fontsize=8, color="#555555")
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _name_lines(axes: Axes, lines: dict[str, dict[str, float]]) -> None:
    """Write each library's name at its last point, and move names apart that would overlap."""
    ends = [(list(points.items())[-1], name) for name, points in lines.items()]
    ends.sort(key=lambda end: end[0][1])
    at: dict[int, float] = {}  # the highest name so far at each n, as log10 ms
    for (n, ms), name in ends:
        y = max(log10(ms), at.get(int(n), -9.0) + 0.28)
        at[int(n)] = y
        axes.annotate(
            name,
            (int(n), 10**y),
            (9, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS[name],
            fontweight="bold" if name == "detcore" else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
        )


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.minorticks_off()


def _figure(x: float) -> str:
    return f"{x:,.0f}" if x >= 9.95 else f"{x:.1f}" if x >= 1 else f"{x:.2f}"


def _duration(ms: float) -> str:
    return f"{ms / 1000:,g} s" if ms >= 1000 else f"{ms:g} ms" if ms >= 1 else f"{1000 * ms:g} us"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw_ratios(folder / "cpu.json", folder / "ratios.png")
    draw_scaling(folder / "nms_scaling.json", folder / "nms_scaling.png")
