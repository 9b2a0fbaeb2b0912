import math

import pytest
import torch
from torch.library import opcheck

from detcore import ops, reference

from .conftest import FLOATS, Backend, random_boxes
from .peers import detection

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2}


def deltas_for(n: int, k: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed + 31 * n + k)
    return torch.randn(n, 4 * k, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("n", "k"), [(0, 1), (1, 1), (63, 1), (65, 3), (257, 1), (5, 91), (4, 0)])
def test_decode_equals_reference(
    backend: Backend, n: int, k: int, dtype: torch.dtype, weights: tuple[float, ...]
) -> None:
    deltas, anchors = backend(deltas_for(n, k).to(dtype)), backend(random_boxes(n).to(dtype))
    got = ops.decode_boxes(deltas, anchors, weights)
    if k == 0:
        assert got.shape == (n, 0)
        return
    want = reference.decode_boxes(deltas, anchors, weights)
    assert got.dtype == dtype and got.shape == (n, 4 * k)
    tolerance = TOLERANCE.get(dtype, 1e-5)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 64, 1023])
def test_encode_equals_reference(
    backend: Backend, n: int, dtype: torch.dtype, weights: tuple[float, ...]
) -> None:
    boxes, anchors = (backend(random_boxes(n, seed=s).to(dtype)) for s in (1, 2))
    got = ops.encode_boxes(boxes, anchors, weights)
    want = reference.encode_boxes(boxes, anchors, weights)
    assert got.dtype == dtype
    torch.testing.assert_close(
        got, want, rtol=TOLERANCE.get(dtype, 1e-5), atol=1e-4, equal_nan=True
    )


@pytest.mark.parametrize("weights", WEIGHTS)
def test_equals_torchvision_and_inverts(weights: tuple[float, ...]) -> None:
    coder = detection._utils.BoxCoder(weights)
    boxes, anchors = (random_boxes(200, seed=s).float() for s in (3, 4))
    deltas = ops.encode_boxes(boxes, anchors, weights)
    torch.testing.assert_close(deltas, coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        ops.decode_boxes(deltas, anchors, weights), boxes, rtol=1e-4, atol=1e-3
    )
    many = deltas_for(200, 5).float()
    torch.testing.assert_close(
        ops.decode_boxes(many, anchors, weights), coder.decode_single(many, anchors),
        rtol=1e-5, atol=1e-4,
    )  # fmt: skip


def test_clip_and_nan(backend: Backend) -> None:
    deltas = torch.tensor([[0.0, 0.0, 1e4, 1e4], [math.nan, 0.0, 0.0, math.nan]])
    anchors = torch.tensor([[0.0, 0.0, 10.0, 20.0]]).expand(2, 4)
    got = ops.decode_boxes(backend(deltas), backend(anchors)).cpu()
    torch.testing.assert_close(got[0], torch.tensor([-307.5, -615.0, 317.5, 635.0]))
    assert got[1].isnan().tolist() == [True, True, True, True]


@pytest.mark.parametrize(("n", "k"), [(1, 1), (65, 1), (33, 4)])
def test_decode_gradient_equals_autograd_of_reference(backend: Backend, n: int, k: int) -> None:
    deltas, anchors = deltas_for(n, k, 7).requires_grad_(), random_boxes(n, seed=5).requires_grad_()
    grad = deltas_for(n, k, 9)
    weights, clip = [10.0, 10.0, 0.5, 0.5], 1.0  # some deltas exceed the clip
    want = torch.autograd.grad(
        reference.decode_boxes(deltas, anchors, weights, clip), (deltas, anchors), grad
    )
    got = backend.native("decode_boxes_backward")(
        backend(grad), backend(deltas.detach()), backend(anchors.detach()), weights, clip
    )
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.cpu(), w, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [1, 257])
def test_encode_gradient_equals_autograd_of_reference(backend: Backend, n: int) -> None:
    boxes, anchors = (random_boxes(n, seed=s).requires_grad_() for s in (6, 7))
    grad = deltas_for(n, 1, 11)
    weights = [10.0, 10.0, 5.0, 5.0]
    want = torch.autograd.grad(
        reference.encode_boxes(boxes, anchors, weights), (boxes, anchors), grad
    )
    got = backend.native("encode_boxes_backward")(
        backend(grad), backend(boxes.detach()), backend(anchors.detach()), weights
    )
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.cpu(), w, rtol=1e-9, atol=1e-9)


def test_gradcheck() -> None:
    boxes, anchors = (random_boxes(5, seed=s).requires_grad_() for s in (8, 9))
    deltas = deltas_for(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(ops.encode_boxes, (boxes, anchors))
    assert torch.autograd.gradcheck(ops.decode_boxes, (deltas, anchors))


@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(grad: bool) -> None:
    boxes, anchors = (random_boxes(5, seed=s).requires_grad_(grad) for s in (10, 11))
    deltas, weights = deltas_for(5, 2).requires_grad_(grad), [1.0, 1.0, 1.0, 1.0]
    opcheck(torch.ops.detcore.encode_boxes, (boxes, anchors, weights))
    opcheck(torch.ops.detcore.decode_boxes, (deltas, anchors, weights, 4.0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda a: ops.decode_boxes(a[:, :3], a),
            "decode_boxes: deltas must be [7, 4k], one row per anchor, got [7, 3]",
        ),
        (
            lambda a: ops.decode_boxes(a[:6], a),
            "decode_boxes: deltas must be [7, 4k], one row per anchor, got [6, 4]",
        ),
        (
            lambda a: ops.encode_boxes(a, a[:, :2]),
            "encode_boxes: anchors must be [N, 4], got [7, 2]",
        ),
        (
            lambda a: ops.encode_boxes(a.double(), a),
            "encode_boxes: boxes and anchors must have one dtype, got float64 and float32",
        ),
        (
            lambda a: ops.encode_boxes(a.long(), a),
            "encode_boxes: boxes must be float32, float64, float16 or bfloat16, got int64",
        ),
        (
            lambda a: ops.encode_boxes(a, a, (1.0, 1.0, 0.0, 1.0)),
            "encode_boxes: weights must be positive, got 0",
        ),
        (
            lambda a: ops.encode_boxes(a, a, (1.0, 1.0)),
            "encode_boxes: weights must be 4 numbers, got 2",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(random_boxes(7).float())
    assert str(raised.value) == words
