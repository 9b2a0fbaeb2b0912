"""All cases, a file per stem of `detcore.ops.registry`: each has cases(), which yields them."""

from collections.abc import Iterator
from importlib import import_module

from detcore.ops.registry import STEMS

from ..case import Case


def cases(op: str | None = None) -> Iterator[Case]:
    """All cases, or those of one op. Inputs are not made yet."""
    for stem in STEMS:
        for case in import_module(f"{__name__}.{stem}").cases():
            if op in (None, case.op):
                yield case
