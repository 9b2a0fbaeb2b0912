"""Measures each op while other programs keep the processor busy, as data-loader workers do.

    python -m benchmarks.ops.busy --json benchmarks/results/busy.json    (about ten minutes)

While an op runs, there are 0, 1 or 2 spinning processes per core. The op and torchvision's take
turns, with one thread and with all threads. We compare means over many calls, because a median
hides the one call in three that waits some milliseconds for a thread.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import detcore
from detcore.bench import Case, cases, machine, open_case

# one or two works per op; heavy ones use all threads, small ones always use one
WORKS = (
    "nms 1,000 boxes",
    "nms 10,000 boxes",
    "nms 10,000 in 100 clusters",
    "nms 10,000 all overlapping",
    "batched_nms 10,000 boxes, 80 classes",
    "soft_nms 1,000 boxes, linear",
    "multiclass_nms SSDLite's 3,234 anchors x 91 classes",
    "match_boxes 100 x 200,000",
    "match_boxes 10 x 8,732",
    "box_iou 4,096 x 4,096",
    "giou loss and gradient, 50,000 pairs",
    "decode_boxes 200,000",
    "decode_dense an RPN's 2 x 9 x 50 x 68",
    "roi_align 1,000 RoIs, NCHW",
    "roi_align 1,000 RoIs, channels-last",
    "roi_align backward, 1,000 RoIs, NCHW",
    "multiscale_roi_align 1,000 RoIs, 4 levels",
)
SPINNERS = (0, 1, 2)  # processes per core
# Limits of the mean: a multiple of our idle time (by processes per core); our time with one thread
# under the same load; torchvision's time under the same load.
IDLE_TIMES = {1: 3.0, 2: 4.0}
ONE_THREAD_TIMES = 1.7
PEER_TIMES = 1.0
TURN = 0.02  # seconds that a library runs before the next one

Figures = dict[str, Any]


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Run `count` processes that each keep a core busy."""
    processes = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(case: Case, seconds: float) -> dict[str, list[float]]:
    """Seconds of each call by contender, such as "detcore, 2 threads", measured in turns."""
    threads = torch.get_num_threads()
    contest = open_case(case, slow_start=False)
    entries = [(name, n) for name in ("detcore", case.peer) for n in dict.fromkeys((1, threads))]
    calls: dict[str, list[float]] = {f"{name}, {n}": [] for name, n in entries}
    order = random.Random(case.work)
    end = time.perf_counter() + seconds * len(entries)
    try:
        while time.perf_counter() < end:
            order.shuffle(entries)
            for name, n in entries:
                torch.set_num_threads(n)
                function, times = contest.functions[name], calls[f"{name}, {n}"]
                function()  # warms up the threads of this contender
                turn = time.perf_counter() + TURN
                while True:
                    begin = time.perf_counter()
                    function()
                    now = time.perf_counter()
                    times.append(now - begin)
                    if now >= turn:
                        break
    finally:
        torch.set_num_threads(threads)
    return calls


def summary(times: list[float]) -> Figures:
    """Mean, median and 90th percentile in milliseconds, and the number of calls."""
    ordered = sorted(times)
    return {
        "mean": 1e3 * statistics.fmean(ordered),
        "median": 1e3 * statistics.median(ordered),
        "p90": 1e3 * ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))],
        "calls": len(ordered),
    }


def judge(by_spinners: dict[int, dict[str, Figures]], peer: str, threads: int) -> list[Figures]:
    """Compare the figures under load with the goals."""
    ours, theirs, alone = f"detcore, {threads}", f"{peer}, {threads}", "detcore, 1"
    rows = []
    for spinners, limit in IDLE_TIMES.items():
        busy = {name: found["mean"] for name, found in by_spinners[spinners].items()}
        idle = by_spinners[0][ours]["mean"]
        row = {
            "spinners": spinners,
            "idle": idle,
            "mean": busy[ours],
            "of_idle": busy[ours] / idle,
            "of_one_thread": busy[ours] / busy[alone],
            "of_peer": busy[ours] / busy[theirs],
        }
        row["met"] = row["of_idle"] <= limit and (
            spinners > 1
            or (row["of_one_thread"] <= ONE_THREAD_TIMES and row["of_peer"] <= PEER_TIMES)
        )
        rows.append(row)
    return rows


def table_of(results: dict[str, Any]) -> Table:
    """One line per work and number of spinning processes."""
    table = Table(title=f"{results['machine']}; means in ms", title_justify="left")
    for head in ("op and input", "spinning per core", "idle", "busy", "of idle",
                 "of one thread", "of torchvision", "goals"):  # fmt: skip
        table.add_column(head, justify="left" if head == "op and input" else "right")
    for work, found in results["works"].items():
        for row in found["judged"]:
            numbers = [f"{row[k]:.3g}" for k in ("idle", "mean", "of_idle", "of_one_thread")]
            table.add_row(work, str(row["spinners"]), *numbers, f"{row['of_peer']:.3g}",
                          "met" if row["met"] else "no")  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="per work and contender")
    parser.add_argument("--work", action="append", help="only works that begin so; repeatable")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    chosen = [c for c in cases() if c.work in WORKS
              and (not options.work or c.work.startswith(tuple(options.work)))]  # fmt: skip
    if not chosen:
        parser.error(f"--work must begin one of: {'; '.join(WORKS)}")
    console = Console(width=max(140, Console().width))
    threads = torch.get_num_threads()
    found: dict[str, dict[int, dict[str, Figures]]] = {case.work: {} for case in chosen}
    for spinners in SPINNERS:
        with spinning(spinners * (os.cpu_count() or 1)):
            for case in track(chosen, f"{spinners} spinning per core", console=console):
                calls = measure(case, options.seconds)
                found[case.work][spinners] = {k: summary(v) for k, v in calls.items()}
    works = {
        case.work: {
            "calls": found[case.work],
            "judged": judge(found[case.work], case.peer, threads),
        }
        for case in chosen
    }
    results = {"machine": machine(), "build": detcore.build_info(), "works": works}
    console.print(table_of(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
        console.print(f"figures in {options.json}")


if __name__ == "__main__":
    main()
