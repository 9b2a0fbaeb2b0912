"""The rows of `measure` as one table, and the notes that go under it."""

from collections.abc import Iterable
from typing import Any

import torch
import torchvision
from rich import box
from rich.console import Console
from rich.table import Table

import detcore

from .case import MODULES
from .timing import Figures


def machine() -> str:
    """What the figures hold for: processor, instruction set, threads, versions."""
    info = detcore.build_info()
    versions = f"torch {info['torch']}, torchvision {torchvision.__version__}"
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{_processor()}, {info['isa']}, {info['threads']} threads{gpu}, {versions}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return "CPU"


def print_rows(console: Console, rows: list[Figures]) -> None:
    """The table and its notes. A narrow terminal gets the best rival instead of each."""
    columns = 85 + sum(len(name) + 3 for name in _rivals(rows))
    console.print(table_of(rows, each_rival=console.width >= columns))
    for line in notes(rows):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def table_of(rows: list[Figures], *, each_rival: bool = True) -> Table:
    """One line a case; CUDA's figures stand beside the CPU's.

    Times are medians in ms, * a single run; times: how many times faster than the peer (torchvision
    where none is named in the first column); limit: what torch needs to write as much, and its
    share of our time; goal: what must hold, and whether it does. Without each_rival a narrow table:
    the best other rival, the limit's share, whether the goal is met. CUDA's are the device's own
    times; call: ours with all that Python and the launch cost; limit: the share of it that moving
    the bytes takes, at the bandwidth of a copy.
    """
    on_cuda = {row["work"]: row for row in rows if row["device"] != "cpu"}
    on_cpu = {row["work"]: row for row in rows if row["device"] == "cpu"}
    lines = [(on_cpu.get(work), on_cuda.get(work)) for work in on_cpu | on_cuda]
    names = _rivals(rows) if each_rival else ["peer", "best other"]
    table = Table(title=machine(), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("op and input", no_wrap=each_rival)
    heads = ["detcore", *names, "times"]
    heads += ["limit", "share", "goal", ""] if each_rival else ["limit", "goal"]
    if on_cuda:
        heads += ["CUDA", "torchvision", "times", "call", "limit"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for cpu, cuda in lines:
        row = cpu or cuda
        assert row is not None
        named = "" if row["peer"] == "torchvision" else f" (peer: {row['peer']})"
        on_device = _cuda_cells(cuda) if on_cuda else []
        blank = [""] * (len(heads) - len(on_device))
        cells = _cpu_cells(cpu, names, each_rival) if cpu else blank
        table.add_row(row["work"] + named, *cells, *on_device)
    return table


def best_other(row: Figures) -> str | None:
    """The fastest rival beside the peer."""
    others = [name for name in row["times"] if name != row["peer"]]
    return min(others, key=lambda name: row["times"][name], default=None)


def notes(rows: list[Figures]) -> list[str]:
    """Which rivals were left out, and why; how many goals are met; how quiet the machine was."""
    left_out = [(row["work"], *pair) for row in rows for pair in row["skipped"].items()]
    lines = [
        f"{name} is not timed on {work}: {reason}"
        for work, name, reason in left_out
        if reason.startswith(("differs", "failed"))
    ]
    absent = list(dict.fromkeys(name for _, name, reason in left_out if reason == "not installed"))
    if absent:
        packages = " ".join(package for name in absent for package in MODULES[name])
        lines.append(f"not installed: {', '.join(absent)} (pip install {packages})")
    if any(reason == "prepares for long" for *_, reason in left_out):
        lines.append("torch.compile is left out, it prepares for long: --full has it")
    if any(run["count"] == 1 for row in rows for run in row["runs"].values()):
        lines.append("* a single run")
    spreads = sorted((row["runs"]["detcore"]["spread"] or 0.0, row["work"]) for row in rows)
    if spreads:
        (middle, _), (most, where) = spreads[len(spreads) // 2], spreads[-1]
        lines.append(
            "spread of our runs (interquartile range over median): "
            f"{middle:.0%} in the middle case, {most:.0%} in the worst, {where}"
        )
    goals = [row for row in rows if "must" in row]
    if goals:
        met, aimed = sum(row["met"] for row in goals), sum(row["aim_met"] for row in goals)
        lines.append(f"{met} of {len(goals)} goals met, {aimed} of the further aims")
    return lines


def _rivals(rows: Iterable[Figures]) -> list[str]:
    """All that were timed, in the order they are met, those without figures left out."""
    return list(dict.fromkeys(name for r in rows if r["device"] == "cpu" for name in r["times"]))


def _cpu_cells(row: Figures, names: list[str], wide: bool) -> list[str]:
    cells = [_ms(row["runs"]["detcore"])]
    for name in names:
        if name == "peer":
            cells.append(_ms(row["runs"].get(row["peer"])))
        elif name == "best other":
            best = best_other(row)
            cells.append(f"{_ms(row['runs'][best])} {best}" if best else "")
        else:
            differs = row["skipped"].get(name, "").split(":")[0]
            left_out = differs if differs in ("differs", "failed") else ""
            cells.append(_ms(row["runs"].get(name)) or left_out)
    cells.append(_times(row))
    limited = "limit_ms" in row
    limit = [f"{row['limit_ms']:.3g}", f"{1 / row['of_limit']:.0%}"] if limited else ["", ""]
    goal = (
        [row["must"], "[green]met[/]" if row["met"] else "[red]no[/]"]
        if "must" in row
        else ["", ""]
    )
    if wide:
        return [*cells, *limit, *goal]
    return [*cells, limit[1], goal[1]]


def _cuda_cells(row: Figures | None) -> list[str]:
    if row is None:
        return [""] * 5
    ours = row["runs"]["detcore"]
    call = f"{ours['call_ms']:.3g}" if "call_ms" in ours else ""
    share = f"{1 / row['of_limit']:.0%}" if "of_limit" in row else ""
    return [_ms(ours), _ms(row["runs"].get(row["peer"])), _times(row), call, share]


def _times(row: Figures) -> str:
    times = row["times"].get(row["peer"])
    return "" if times is None else f"{times:.3g}" if times < 1000 else f"{times:,.0f}"


def _ms(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    ms = run["ms"]
    return (f"{ms:,.0f}" if ms >= 1000 else f"{ms:.3g}") + ("*" if run["count"] == 1 else "")
