"""The part of `detcore eval` that holds result files in KITTI's form against its labels."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from detcore.commands.console_tables import volume
from detcore.commands.output_paths import check_outputs
from detcore.evaluation.kitti_matching import LEVELS
from detcore.evaluation.kitti_metrics import FIGURES, POINTS, kitti_metrics
from detcore.evaluation.kitti_results import (
    kitti_label_files,
    kitti_result_files,
    read_kitti_labels,
    read_kitti_results,
)
from detcore.utils.arguments import one_of
from detcore.utils.atomic_write import write_json
from detcore.utils.errors import UsageError
from detcore.utils.json_types import Json
from detcore.utils.printing import console, say

# parameters of the command that have a meaning here
_TAKEN = {"data", "split", "results", "kitti", "kitti_points", "json_out", "threads"}
_SHOWN = {"AP_2d": "2D AP", "AP_bev": "bird's-eye AP", "AP_3d": "3D AP", "AOS": "AOS"}


def evaluate_kitti(
    given: typer.Context,
    *,
    data: str | None,
    split: str | None,
    results: Path | None,
    points: int | None,
    json_out: Path | None,
) -> None:
    """Measure, write and print.

    Args:
        given: the command as it was called, for what has no meaning here.
        data, split, results, points, json_out: its options.

    Raises:
        UsageError: an option is lacking, or has no meaning here.
        DataError: files are missing or not in KITTI's form.
    """
    truth_at, results_at = _checked(given, data, results, points)
    files = kitti_label_files(truth_at, split)
    found = kitti_result_files(results_at, [name for name, _ in files])
    check_outputs(
        files={"--json": json_out}, folders={}, inputs=[*found, *(file for _, file in files)]
    )
    with console.status("evaluating"):
        truth = [read_kitti_labels(file) for _, file in files]
        figures = kitti_metrics(
            truth, [read_kitti_results(file) for file in found], points=points or POINTS[0]
        )
    shown_split = split or "val"
    if json_out:
        write_json(json_out, {"results": str(results), "split": shown_split, **figures})
    console.print(kitti_table(figures, f"{data} ({shown_split})"))
    for note in figures["notes"]:
        say(f"note: {note}")
    say(f"means over {figures['points']} recalls  ({volume(figures)})")


def kitti_table(figures: Json, title: str) -> Table:
    """`kitti_metrics`' figures, 0..1: a row per class and figure, a column per level."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("class", "IoU above", "figure", *(level.name for level in LEVELS)):
        table.add_column(name, justify="left" if name in ("class", "figure") else "right")
    for row in figures["per_class"]:
        counts = (str(row["objects"][level.name]) for level in LEVELS)
        table.add_row(row["name"], f"{row['iou']:g}", "objects", *counts, style="dim")
        for figure in FIGURES:
            values = (row[figure][level.name] for level in LEVELS)
            table.add_row("", "", _SHOWN[figure], *map(_as_text, values))
        table.add_section()
    return table


def _checked(
    given: typer.Context, data: str | None, results: Path | None, points: int | None
) -> tuple[str, Path]:
    """--data and --results, both of which are needed."""
    for param in given.command.params:
        source = given.get_parameter_source(param.name or "")
        if param.name not in _TAKEN and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--kitti measures the files of --results, without {param.opts[0]}")
    if results is None:
        raise UsageError("--kitti needs --results FOLDER, with a result file for each picture")
    if results.is_file():
        raise UsageError(
            f"--results {results} is a file; --kitti wants the folder of the result files"
        )
    if data is None:
        raise UsageError("--kitti needs --data kitti:PATH, the labels to hold the results against")
    if points is not None:
        one_of("--kitti-points", str(points), tuple(map(str, POINTS)))
    return data, results


def _as_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
