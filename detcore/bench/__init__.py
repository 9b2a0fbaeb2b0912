"""Every op against its peers on this machine: the same tensors, checked first, interleaved.

`detcore bench` prints the table; the benchmarks of the repository run the same cases. A case is in
`ops/<op>.py`, other libraries are in `rivals.py`.
"""

import json as json_module
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

import detcore
from detcore.utils.atomic_write import write_text

from .case import Case, Contender, Must, call, open_case
from .device import bandwidth, measure_device
from .ops import cases
from .table import machine, notes, print_rows, table_of
from .timing import Figures, Measurement, interleave, measure_cpu

__all__ = [
    "Case",
    "Contender",
    "Measurement",
    "Must",
    "bandwidth",
    "call",
    "cases",
    "devices",
    "interleave",
    "machine",
    "main",
    "measure",
    "measure_device",
    "notes",
    "open_case",
    "print_rows",
    "table_of",
    "to_json",
]


def devices() -> list[str]:
    """Where cases can run here."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def measure(
    case: Case, budget: float = 1.0, device: str = "cpu", *, slow_start: bool = True
) -> tuple[Figures, Measurement]:
    """`measure_cpu` or `measure_device`: a GPU's times are its own, the CPU's are the calls'."""
    if device == "cpu":
        return measure_cpu(case, budget, slow_start=slow_start)
    return measure_device(case, budget, device)


def to_json(rows: list[Figures]) -> str:
    """The figures and what they hold for."""
    about = {"machine": machine(), "build": detcore.build_info(), "rows": rows}
    return json_module.dumps(about, indent=1)


def main(full: bool = False, op: str | None = None, json: Path | None = None) -> None:
    """Prints the table, in two to three minutes unless full, and writes it as JSON if asked to.

    op: cases of this op only. Raises ValueError where there is none.
    """
    # a pipe has no width of its own
    console = Console() if Console().is_terminal else Console(width=200)
    everything = list(cases())
    chosen = [c for c in everything if (c.quick or full) and op in (None, c.op)]
    if not chosen:
        known = ", ".join(dict.fromkeys(case.op for case in everything))
        raise ValueError(f"bench: op must be one of {known}, got {op}")
    console.print(
        f"Each op on the same tensors as its rivals, results compared first, runs interleaved: "
        f"{len(chosen)} cases. Times in ms.",
        soft_wrap=True,
    )
    start = time.perf_counter()
    pairs = [(case, device) for case in chosen for device in devices()]
    rows = [
        measure(case, 1.5 if full else 0.4, device, slow_start=full)[0]
        for case, device in track(pairs, description="measuring", console=console, transient=True)
    ]
    print_rows(console, rows)
    console.print(f"measured in {time.perf_counter() - start:.0f} s", highlight=False)
    if json:
        write_text(json, to_json(rows))
        console.print(f"figures in {json}", markup=False)
