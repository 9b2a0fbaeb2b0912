"""The tables and charts of the benchmarks page, from benchmarks/results/*.json."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import charts as drawn
from detcore.bench.table import best_other

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def tables() -> dict[str, str]:
    """A Markdown text per file of results."""
    runs = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in ("cpu", "avx2")}
    busy = json.loads((RESULTS / "busy.json").read_text())
    texts = {f"{name}.md": _ops(results) for name, results in runs.items()}
    scaling = json.loads((RESULTS / "nms_scaling.json").read_text())
    texts["nms_scaling.md"] = f"Measured on: {scaling['machine']}.\n\n{_scaling(scaling['ms'])}\n"
    return texts | {"busy.md": _busy(busy)}


def charts() -> Iterator[tuple[str, bytes]]:
    """File name and PNG of each chart."""
    with tempfile.TemporaryDirectory() as folder:
        ratios, scaling = Path(folder) / "ratios.png", Path(folder) / "nms_scaling.png"
        drawn.draw_ratios(RESULTS / "cpu.json", ratios)
        drawn.draw_scaling(RESULTS / "nms_scaling.json", scaling)
        for file in (ratios, scaling):
            yield file.name, file.read_bytes()


def _ops(results: dict[str, Any]) -> str:
    text = f"Measured on: {results['machine']}.\n"
    rows = [row for row in results["rows"] if row["device"] == "cpu"]
    for op in dict.fromkeys(row["op"] for row in rows):
        lines = [_row(row) for row in rows if row["op"] == op]
        head = ["case", "detcore, ms", "rival, ms", "times faster", "next best", "goal"]
        text += f"\n**{op}**\n\n{_table(head, lines)}\n"
    return text


def _row(row: dict[str, Any]) -> list[str]:
    peer, runs, other = row["peer"], row["runs"], best_other(row)
    rival = runs.get(peer)
    name = "" if peer == "torchvision" else f" ({peer})"
    goal = row.get("must", "")
    if goal:
        goal += "" if row["met"] else ", missed"
    return [
        row["work"].removeprefix(row["op"]).strip() or row["work"],
        _figure(runs["detcore"]["ms"]),
        f"{_figure(rival['ms'])}{name}" if rival else "",
        f"**{_figure(row['times'][peer])}**" if peer in row["times"] else "",
        f"{_figure(row['times'][other])} ({other})" if other else "",
        goal,
    ]


def _scaling(ms: dict[str, dict[str, float]]) -> str:
    counts = [int(n) for n in ms["detcore"]]
    lines = [
        [f"{n:,}", *(_figure(points[str(n)]) if str(n) in points else "" for points in ms.values())]
        for n in counts
    ]
    return _table(["boxes", *(f"{name}, ms" for name in ms)], lines)


def _busy(results: dict[str, Any]) -> str:
    lines = []
    for work, found in results["works"].items():
        for one in found["judged"]:
            lines.append([
                work, str(one["spinners"]), _figure(one["idle"]), _figure(one["mean"]),
                f"{one['of_idle']:.2f}", f"{one['of_one_thread']:.2f}", f"{one['of_peer']:.2f}",
                "yes" if one["met"] else "no",
            ])  # fmt: skip
    head = [
        *("case", "busy processes per core", "idle, ms", "busy, ms", "busy / idle"),
        *("busy / one thread", "busy / torchvision", "goal met"),
    ]
    return f"Measured on: {results['machine']}.\n\n{_table(head, lines)}\n"


def _table(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])


def _figure(x: float) -> str:
    """Three digits that count."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"
