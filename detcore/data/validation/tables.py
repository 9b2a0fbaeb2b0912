"""The findings of `detcore.data.validation.check` as they are printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from detcore.utils.text import counted

_CLASSES = 40  # rows of the classes' table; the JSON has all
_EXAMPLES = 3  # faults shown of each kind


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """Counts, classes, sizes and faults of what `detcore.data.validation.check.check` gives."""
    if found["splits"]:
        yield _splits(found)
    if found["classes"]:
        yield _classes(found["classes"])
    if found["image_size"]["width"]:
        yield _sizes(found)
    if found["faults"]:
        yield _faults(found["faults"])


def headline(found: dict[str, Any]) -> str:
    """Errors and warnings in one line."""
    if not found["errors"] and not found["warnings"]:
        return "no faults"
    errors = counted(found["errors"], "error", "errors")
    return f"{errors}, {counted(found['warnings'], 'warning', 'warnings')}"


def _splits(found: dict[str, Any]) -> Table:
    table = Table("split", title=found["data"])
    for name in next(iter(found["splits"].values())):
        table.add_column(name, justify="right")
    for split, row in found["splits"].items():
        table.add_row(split, *map(str, row.values()))
    return table


def _classes(classes: list[dict[str, Any]]) -> Table:
    table = Table("class", title="classes")
    for name in ("images", "objects", "share"):
        table.add_column(name, justify="right")
    total = max(1, sum(c["objects"] for c in classes))
    for row in classes[:_CLASSES]:
        share = f"{row['objects'] / total:.1%}"
        table.add_row(Text(row["name"]), str(row["images"]), str(row["objects"]), share)
    if len(classes) > _CLASSES:
        table.add_row(f"{len(classes) - _CLASSES} more, see --json", "", "", "")
    return table


def _sizes(found: dict[str, Any]) -> Table:
    rows = {f"image {k}": found["image_size"][k] for k in ("width", "height")}
    boxes = found.get("box_size", {})
    rows |= {f"box {k}": boxes[k] for k in ("width", "height", "side") if boxes.get(k)}
    if found.get("box_angle"):
        rows["box angle, °"] = found["box_angle"]
    table = Table("pixels", title="sizes")
    for name in rows["image width"]:
        table.add_column(name, justify="right")
    for name, cuts in rows.items():
        table.add_row(name, *(f"{cut:g}" for cut in cuts.values()))
    return table


def _faults(faults: list[dict[str, Any]]) -> Table:
    table = Table("", "fault", title="faults")
    table.add_column("count", justify="right")
    table.add_column("for example", overflow="fold")
    for fault in faults:
        # the folder is the same for nearly all of them; the JSON has whole paths
        shown = [_short(fault, text) for text in fault["examples"][:_EXAMPLES]]
        if len(fault["examples"]) > len(shown):
            shown.append("...")
        colour, word = ("red", "error") if fault["error"] else ("yellow", "warning")
        examples = Text("\n".join(shown))
        table.add_row(Text(word, style=colour), fault["kind"], str(fault["count"]), examples)
    return table


def _short(fault: dict[str, Any], text: str) -> str:
    for file in fault["files"]:
        if text.startswith(f"{file}: "):
            return Path(file).name + text.removeprefix(file)
    return text
