"""A part whose second item raises; the third must still run."""

from typing import Any

from benchmarks.gpu.rows import Rows


def main(rows: Rows, dry: bool) -> None:
    def wrong() -> dict[str, Any]:
        raise ValueError("planted\nand more")

    rows.fact(dry=dry)
    rows.each([("first", dict), ("second", wrong), ("third", lambda: {"value": 3})])
