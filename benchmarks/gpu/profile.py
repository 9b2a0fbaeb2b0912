"""Profiles the slowest kernels: with torch's profiler, which needs no rights, then with ncu."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.rows import Row, Rows
from benchmarks.gpu.table import is_small
from benchmarks.gpu.workload import DEFAULT, prepared

MOST_WORKS = 12
SECONDS = 28.0  # for ncu
_SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats", "WarpStateStats")
_METRICS = ("gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum")
_OCCUPANCY = "sm__warps_active.avg.pct_of_peak_sustained_active"
_STALL = "smsp__average_warps_issue_stalled_"


def main(rows: Rows, dry: bool) -> None:
    """Without a GPU, print ncu's commands, and profile the CPU operators."""
    out = Path(os.environ["DETCORE_GPU_CHECK_OUT"])
    works = slowest(out / "gpu.json")
    rows.each(items(works[:2] if dry else works, "cpu" if dry else "cuda"))
    commands = ncu(works, out)
    if dry:
        for command in commands:
            print(" ".join(command))
            rows.note("on a GPU: " + " ".join(command))
    elif shutil.which("ncu") is None:
        rows.note("there is no ncu on PATH or in the CUDA toolkit's folders")
    else:
        rows.each([("ncu", partial(_looked_at, commands, out))])


def slowest(report: Path) -> list[str]:
    """Works with the largest distance from the memory limit in the figures; two per op."""
    try:
        found = json.loads(report.read_text())["parts"]["figures"]["rows"]
    except (OSError, ValueError, KeyError):
        found = []
    far = [row for row in found if row.get("of_limit") and not is_small(row["work"])]
    far.sort(key=lambda row: -row["of_limit"])
    ops = [row["op"] for row in far]
    chosen = [row["work"] for i, row in enumerate(far) if ops[:i].count(row["op"]) < 2]
    return chosen[:MOST_WORKS] or list(DEFAULT)


def items(works: list[str], device: str) -> Iterator[tuple[str, Callable[[], Row]]]:
    for work in works:
        yield work, partial(_kernels, work, device)


def _kernels(work: str, device: str) -> Row:
    """The kernels of one call: microseconds, blocks, threads, registers, shared memory."""
    from torch.profiler import ProfilerActivity, profile

    ((_, function),) = prepared([work], device)
    activity = ProfilerActivity.CPU if device == "cpu" else ProfilerActivity.CUDA
    with profile(activities=[activity]) as profiler:
        function()
        if device != "cpu":
            torch.cuda.synchronize()
    trace = Path(os.environ["TMPDIR"]) / "trace.json"
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    wanted = ("kernel", "gpu_memcpy", "gpu_memset") if device != "cpu" else ("cpu_op",)
    kernels = [_of_event(e) for e in events if e.get("cat") in wanted]
    busy = sum(kernel["us"] for kernel in kernels)
    return {"busy_us": round(busy, 2), "kernels": kernels[:40]}


def _of_event(event: dict[str, Any]) -> Row:
    given = event.get("args", {})
    told = {key: given[key] for key in ("grid", "block", "registers per thread") if key in given}
    return {"name": event["name"][:120], "us": float(event.get("dur", 0)), **told}


def ncu(works: list[str], out: Path) -> list[list[str]]:
    """Commands that profile our kernels in one call of each work, by sections (by plain metrics if
    this ncu lacks a section), and then print the results as CSV."""
    report = str(out / "profile.ncu-rep")
    look = ["ncu", "--clock-control", "none", "--profile-from-start", "off"]
    look += ["--kernel-name-base", "demangled", "--kernel-name", "regex:detcore"]
    look += ["--launch-count", "40", "--force-overwrite", "--export", report]
    sections = [word for section in _SECTIONS for word in ("--section", section)]
    work = [sys.executable, "-m", "benchmarks.gpu.workload", *works]
    metrics = ["--metrics", ",".join(_METRICS)]
    bare = ["--metrics", ",".join((*_METRICS, _OCCUPANCY))]
    read = ["ncu", "--import", report, "--page", "raw", "--csv"]
    return [[*look, *sections, *metrics, *work], [*look, *bare, *work], read]


def _looked_at(commands: list[list[str]], out: Path) -> Row:
    by_sections, bare, read = commands
    end = time.monotonic() + SECONDS
    error = _profiled(by_sections, SECONDS, out)
    if error and end - time.monotonic() > SECONDS / 2:
        error = _profiled(bare, end - time.monotonic(), out) and error
    if error:
        raise RuntimeError(error)
    table = subprocess.run(read, capture_output=True, text=True, timeout=20, check=True).stdout
    (out / "profile.csv").write_text(table, encoding="utf-8")
    return {"kernels": list(kernels_of(table))}


def _profiled(command: list[str], seconds: float, out: Path) -> str:
    """Run ncu; if it wrote no report, return its message."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=seconds, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"ncu was not through after {seconds:.0f} s"
    print(done.stdout, flush=True)
    if done.returncode == 0 and (out / "profile.ncu-rep").exists():
        return ""
    errors = [line for line in done.stdout.splitlines() if line.startswith("==ERROR==")]
    last = errors or done.stdout.strip().splitlines()[-1:] or ["nothing said"]
    return f"ncu ended with exit code {done.returncode}: {last[0]}"


def kernels_of(table: str) -> Iterator[Row]:
    """For each kernel in ncu's CSV: time, bytes, occupancy and the three most frequent stalls."""
    lines = [line for line in table.splitlines() if line.startswith('"')]
    names, units, *values = csv.reader(lines)
    for line in values:
        row, unit = dict(zip(names, line, strict=False)), dict(zip(names, units, strict=False))
        stalls = {
            name.removeprefix(_STALL).removesuffix("_per_issue_active.ratio"): _number(value)
            for name, value in row.items()
            if name.startswith(_STALL) and name.endswith("_per_issue_active.ratio")
        }
        top = sorted(stalls, key=lambda name: -stalls[name])[:3]
        yield {
            "name": row.get("Kernel Name", "")[:120],
            "us": _scaled(row, unit, _METRICS[0], {"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6}),
            "bytes": sum(_scaled(row, unit, name, _BYTES) for name in _METRICS[1:]),
            "occupancy": _number(row.get(_OCCUPANCY, "")),
            "registers": _number(row.get("launch__registers_per_thread", "")),
            "stalls": {name: stalls[name] for name in top},
        }


_BYTES = {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}


def _scaled(row: Row, unit: Row, name: str, scale: dict[str, float]) -> float:
    # newer versions of ncu write nsecond, usecond
    said = unit.get(name, "").replace("second", "s")
    return _number(row.get(name, "")) * scale.get(said, 1)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return 0.0
