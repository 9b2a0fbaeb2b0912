"""Words that go to people."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]  # takes a line that somebody is to read


def counted(count: int, one: str, many: str) -> str:
    """ "1 box", "2 boxes"."""
    return f"{count} {one if count == 1 else many}"
