"""A call leaves nothing behind: no Python object and no allocation of the C++ side, however small.

A leak of a few bytes per call is invisible in a process's size, so what is held is counted:
Python's own blocks, and the C library's bytes.
"""

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from detcore.ops import _route
from detcore.ops.registry import OPERATORS

CALLS = 200  # a leak in each of them is far above what an interpreter takes now and then


class _Allocated(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _allocated() -> Callable[[], _Allocated] | None:
    """The C library's count of its allocations; None where it has none (glibc has since 2.33)."""
    count = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if count is not None:
        count.restype = _Allocated
    return count


def _held() -> tuple[int, int]:
    """Python's allocated blocks, and the bytes that the C library has given out."""
    gc.collect()
    count = _allocated()
    now = None if count is None else count()
    return sys.getallocatedblocks(), now.uordblks + now.hblkhd if now else 0


def _grows(call: Callable[[], Any]) -> tuple[float, float]:
    """How many blocks and bytes each call leaves behind, in the best of three rounds.

    A leak is in each of them; what allocators keep for themselves now and then is not.
    """
    for _ in range(20):  # what is made once, such as threads and their memory
        call()
    rounds = []
    for _ in range(3):
        blocks, held = _held()
        for _ in range(CALLS):
            call()
        more, grown = _held()
        rounds.append(((more - blocks) / CALLS, (grown - held) / CALLS))
    return min(r[0] for r in rounds), min(r[1] for r in rounds)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", OPERATORS)
def test_a_call_leaves_nothing_behind(name: str) -> None:
    arguments, entry = OPERATORS[name].arguments(), _route.bind(name)
    blocks, held = _grows(lambda: entry(*arguments))
    assert blocks < 0.5 and held < 8, f"{blocks} blocks and {held} bytes per call"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", OPERATORS)
def test_a_refused_call_leaves_nothing_behind(name: str) -> None:
    arguments, entry = OPERATORS[name].arguments(), _route.bind(name)
    place, value, _ = OPERATORS[name].fault
    arguments[place] = value

    def call() -> None:
        with pytest.raises((ValueError, TypeError)):
            entry(*arguments)

    blocks, held = _grows(call)
    assert blocks < 0.5 and held < 8, f"{blocks} blocks and {held} bytes per call"
