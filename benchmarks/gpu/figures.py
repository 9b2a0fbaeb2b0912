"""Compares every case of `detcore bench` on the GPU with torchvision's ops, quick ones first."""

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.gpu.rows import Row, Rows
from benchmarks.gpu.table import is_small
from detcore.bench import Case, bandwidth, cases, measure_device

SECONDS = 0.5  # per case on the device, for all libraries; half of that for the calls


def main(rows: Rows, dry: bool) -> None:
    """Without a GPU, time the CPU kernels, without the slowest cases."""
    device = "cpu" if dry else "cuda"
    rows.fact(bandwidth_gb_s=round(bandwidth(device) / 1e9, 1))
    rows.each(items(device, 0.02 if dry else SECONDS))


def items(device: str, budget: float) -> Iterator[tuple[str, Callable[[], Row]]]:
    """First the cases that matter on a GPU: small ones only measure Python."""
    everything = sorted(cases(), key=lambda case: (not case.quick, is_small(case.work)))
    for case in everything:
        if device != "cpu" or case.quick:
            yield case.work, partial(_measured, case, device, budget)


def _measured(case: Case, device: str, budget: float) -> Row:
    """A result that differs from torchvision's is an error, but its times are kept."""
    row, _ = measure_device(case, budget, device, strict=False)
    if "differs" in row:
        return row | {"ok": False, "error": row["differs"]}
    return row
