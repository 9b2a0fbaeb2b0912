"""Tests of new_op beyond those of the registry: messages, edge cases, peers."""

import pytest
import torch

from detcore import ops

from .conftest import Backend


def test_wrong_shapes_are_named(backend: Backend) -> None:
    with pytest.raises(ValueError) as raised:
        ops.new_op(backend(torch.zeros(7, 5)))
    assert str(raised.value) == "new_op: boxes must be [N, 4], got [7, 5]"


def test_edges(backend: Backend) -> None:
    pytest.fail("TODO: what NaN, infinity, ties and empty boxes give; what a peer gives")
