"""The simulator from Python: kernels with any order of threads, and their costs.

test_faults.cpp and test_counters.cpp test the checker itself with planted faults.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from detcore.ops.registry import OPERATORS

from ..ops.conftest import SIMT, counted, random_boxes

CUDA = Path(__file__).parents[2] / "csrc" / "kernels" / "cuda"
CODEC = [1.0, 1.0, 1.0, 1.0]

needs_simt = pytest.mark.skipif(SIMT is None, reason="the simulator is not built: make test")
pytestmark = pytest.mark.simt


@pytest.fixture(autouse=True)
def as_launched() -> Iterator[None]:
    yield
    if SIMT is not None:
        SIMT.set_seed(1)
        SIMT.set_most_blocks(0)


def _scores(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def _boxes(n: int, seed: int = 0) -> torch.Tensor:
    return random_boxes(n, seed=seed).float()


def run(op: str) -> Any:
    """Run one of `OPERATORS` in the simulator; return its result or its output tensor."""
    arguments = OPERATORS[op].arguments()
    result = getattr(SIMT, op)(*arguments)
    return arguments[-1] if result is None else result


def assert_same(got: Any, wanted: Any) -> None:
    for a, b in zip(tree_leaves(got), tree_leaves(wanted), strict=True):
        assert torch.equal(a, b)


@needs_simt
@pytest.mark.parametrize("op", OPERATORS)
def test_order_of_threads_does_not_matter(op: str) -> None:
    assert SIMT is not None
    wanted = run(op)
    for seed in (0, 2, 3, 4):
        SIMT.set_seed(seed)
        assert_same(run(op), wanted)


@needs_simt
def test_order_of_blocks_that_wait_for_each_other_does_not_matter() -> None:
    """More boxes than one block of nms handles; blocks get tiles in order of their start."""
    assert SIMT is not None
    boxes, scores = random_boxes(2300, 300, 60).float(), _scores(2300)
    wanted = SIMT.nms(boxes, scores, 0.5)
    for seed in (0, 2, 3):
        SIMT.set_seed(seed)
        assert_same(SIMT.nms(boxes, scores, 0.5), wanted)


@needs_simt
@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_few_blocks_stride_over_the_rest(op: str, blocks: int) -> None:
    """Kernels must loop if there are more than 2^31 - 1 blocks, which no test can launch."""
    assert SIMT is not None
    wanted = run(op)
    SIMT.set_most_blocks(blocks)
    SIMT.set_seed(blocks)
    assert_same(run(op), wanted)


@needs_simt
@pytest.mark.parametrize("op", OPERATORS)
def test_no_float_atomics(op: str) -> None:
    """With them, the result would depend on the order of threads."""
    with counted() as counts:
        run(op)
    assert counts["launches"] > 0 and counts["store_bytes"] > 0
    assert counts["float_atomics"] == 0


@needs_simt
def test_elementwise_ops_move_each_value_once() -> None:
    assert SIMT is not None
    n = 1000
    a, b = _boxes(n), _boxes(n, 1)
    with counted() as counts:
        SIMT.paired_box_iou(a, b, "xyxy", "giou", 1e-7)
    assert (counts["load_bytes"], counts["store_bytes"]) == (2 * 16 * n, 4 * n)
    assert counts["store_sectors"] == 4 * n / 32  # coalesced
    with counted() as counts:
        SIMT.encode_boxes(a, b, CODEC)
    assert (counts["load_bytes"], counts["store_bytes"]) == (2 * 16 * n, 16 * n)


@needs_simt
def test_counters_stop_and_start_from_zero() -> None:
    assert SIMT is not None
    with counted() as counts:
        pass
    assert set(counts.values()) == {0}
    SIMT.paired_box_iou(_boxes(5), _boxes(5), "xyxy", "iou", 0.0)
    assert SIMT.counters()["load_bytes"] == 0


def test_both_sides_of_every_guard_are_run() -> None:
    """The simulator is built for sm_75 only. That is enough while no kernel has a newer path."""
    guarded = [
        path.name
        for path in sorted(CUDA.iterdir())
        if path.name != "launch.cuh" and re.search("DETCORE_SM|__CUDA_ARCH__", path.read_text())
    ]
    assert guarded == [], "build the simulator a second time, with -DDETCORE_SM=90"
