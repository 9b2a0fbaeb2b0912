"""A part that lacks something from the start."""

from benchmarks.gpu.rows import Rows


def main(rows: Rows, dry: bool) -> None:
    raise RuntimeError("no such tool here")
