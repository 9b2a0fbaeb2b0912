import pytest
import torch
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops._route import bind

from .conftest import FLOATS, Backend, random_boxes
from .peers import tv

KINDS = ("iou", "giou", "diou", "ciou")
SHAPES = [(0, 0), (0, 5), (5, 0), (1, 1), (2, 3), (7, 64), (63, 65), (64, 63), (17, 511), (33, 513),
          (128, 17), (3, 1025)]  # fmt: skip


def pairwise(kind: str, eps: float = 1e-7):
    return {
        "iou": ops.box_iou,
        "giou": ops.generalized_box_iou,
        "diou": lambda a, b: ops.distance_box_iou(a, b, eps),
        "ciou": lambda a, b: ops.complete_box_iou(a, b, eps),
    }[kind]


def torchvision_pairwise(kind: str):
    return {
        "iou": tv.box_iou,
        "giou": tv.generalized_box_iou,
        "diou": tv.distance_box_iou,
        "ciou": tv.complete_box_iou,
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_equals_reference(backend: Backend, n: int, m: int, dtype: torch.dtype, kind: str) -> None:
    a, b = (backend(random_boxes(k, seed=s).to(dtype)) for k, s in ((n, 1), (m, 2)))
    got = pairwise(kind)(a, b)
    eps = 0.0 if kind in ("iou", "giou") else 1e-7
    want = reference.box_iou(a, b, kind=kind, eps=eps)
    assert got.dtype == want.dtype and got.shape == (n, m) and got.device == a.device
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64],
    ids=str,
)
def test_equals_torchvision(dtype: torch.dtype, kind: str) -> None:
    a, b = (random_boxes(k, seed=k, whole=True).to(dtype) for k in (60, 41))
    got, want = pairwise(kind)(a, b), torchvision_pairwise(kind)(a, b)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    if kind == "iou":
        assert torch.equal(got, want)  # the same bits, because no operation is contracted


def test_mixed_dtypes_promote_as_torchvision_does() -> None:
    a, b = random_boxes(5, seed=1), random_boxes(6, seed=2).float()
    assert ops.box_iou(a, b).dtype == tv.box_iou(a, b).dtype == torch.float64
    torch.testing.assert_close(ops.box_iou(a, b), tv.box_iou(a, b))


@pytest.mark.parametrize("fmt", ["xyxy", "xywh", "cxcywh"])
def test_formats_and_batches(backend: Backend, fmt: str) -> None:
    a = random_boxes(24, seed=3).float().view(2, 3, 4, 4)
    b = random_boxes(30, seed=4).float().view(2, 3, 5, 4)
    want = torch.stack(
        [tv.box_iou(x, y) for x, y in zip(a.view(6, 4, 4), b.view(6, 5, 4), strict=True)]
    ).view(2, 3, 4, 5)
    a, b = (backend(ops.box_convert(t, "xyxy", fmt)) for t in (a, b))
    torch.testing.assert_close(ops.box_iou(a, b, fmt).cpu(), want, rtol=1e-4, atol=1e-5)


def test_not_contiguous(backend: Backend) -> None:
    a, b = backend(random_boxes(40, seed=5).float()), backend(random_boxes(30, seed=6).float())
    wide = torch.zeros(4, 40, device=backend.device).copy_(a.T)
    assert torch.equal(ops.box_iou(wide.T, b[::2]), ops.box_iou(a, b[::2].contiguous()))


def test_nan_infinity_and_empty_boxes(backend: Backend) -> None:
    boxes = torch.tensor(
        [[0, 0, 1, 1], [float("nan"), 0, 1, 1], [0, 0, 0, 0], [5, 5, 4, 4], [0, 0, float("inf"), 1]]
    )
    for kind in KINDS:
        got = pairwise(kind)(backend(boxes), backend(boxes)).cpu()
        want = torchvision_pairwise(kind)(boxes, boxes)
        torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_out(backend: Backend) -> None:
    a, b = backend(random_boxes(50, seed=7).float()), backend(random_boxes(70, seed=8).float())
    out = torch.full((50, 70), -1.0, device=backend.device)
    assert ops.box_iou(a, b, out=out) is out
    assert torch.equal(out, ops.box_iou(a, b))


def test_out_anywhere_in_memory(backend: Backend) -> None:
    """Rows of a multiple of 16 bytes that don't begin at a multiple of 16."""
    a, b = backend(random_boxes(5).float()), backend(random_boxes(8).float())
    for offset in (0, 1, 2, 3):
        out = torch.zeros(43, device=backend.device)[offset : offset + 40].view(5, 8)
        assert torch.equal(ops.generalized_box_iou(a, b, out=out), ops.generalized_box_iou(a, b))


def test_out_is_seen_by_autograd_and_kept_from_the_inputs() -> None:
    a, out = random_boxes(4).float(), torch.empty(4, 4)
    weight = torch.ones(4, 4, requires_grad=True)
    ops.box_iou(a, a, out=out)
    loss = (out * weight).sum()
    ops.box_iou(a + 5, a, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with pytest.raises(ValueError, match="box_iou: out must not share memory with the boxes"):
        ops.box_iou(a, a, out=a)
    whole = random_boxes(4, whole=True).int()
    assert torch.equal(ops.box_iou(whole, whole, out=out), ops.box_iou(whole, whole))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_large_integers_are_not_rounded(dtype: torch.dtype) -> None:
    big = torch.tensor([[16777217, 0, 16777219, 2], [16777216, 0, 16777220, 4]], dtype=dtype)
    got = ops.box_iou(big, big)
    assert got.dtype == torch.float32 and torch.equal(got, tv.box_iou(big, big))
    half = torch.tensor([[0, 0, 100, 10]], dtype=torch.float16)
    wide = torch.tensor([[0, 0, 70000, 10]], dtype=dtype)
    torch.testing.assert_close(ops.box_iou(wide, half), torch.tensor([[1 / 700]]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 3), (17, 33), (2, 600), (600, 2)])
def test_gradient_equals_autograd_of_reference(backend: Backend, n: int, m: int, kind: str) -> None:
    a, b = random_boxes(n, seed=9, whole=True), random_boxes(m, seed=10, whole=True)
    a, b = a.requires_grad_(), b.requires_grad_()  # integer coordinates, so that edges tie
    eps = 1e-7 if kind in ("diou", "ciou") else 0.0
    grad = torch.randn(n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    want = torch.autograd.grad(reference.box_iou(a, b, kind=kind, eps=eps), (a, b), grad)
    got = backend.native("box_iou_backward")(
        backend(grad), backend(a.detach()), backend(b.detach()), kind, eps
    )
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.cpu(), w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["diou", "ciou"])
def test_gradient_with_the_callers_eps(backend: Backend, kind: str) -> None:
    """Large enough to show: one that a kernel has of its own is the default, and looks right."""
    a, b = (random_boxes(k, seed=k).requires_grad_() for k in (17, 33))
    grad = torch.randn(17, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for eps in (0.0, 50.0):
        want = torch.autograd.grad(reference.box_iou(a, b, kind=kind, eps=eps), (a, b), grad)
        got = backend.native("box_iou_backward")(
            backend(grad), backend(a.detach()), backend(b.detach()), kind, eps
        )
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g.cpu(), w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str) -> None:
    a, b = (random_boxes(k, seed=k).requires_grad_() for k in (4, 5))
    if kind == "ciou":  # its weight is a constant in the gradient, so numeric gradients differ
        function = lambda x, y: ops.complete_box_iou(x, y)  # noqa: E731
        got = torch.autograd.grad(function(a, b).sum(), (a, b))
        want = torch.autograd.grad(tv.complete_box_iou(a, b).sum(), (a, b))
        torch.testing.assert_close(got, want)
    else:
        assert torch.autograd.gradcheck(pairwise(kind), (a, b))


@pytest.mark.parametrize("fmt", ["xywh", "cxcywh"])
def test_gradient_through_formats(fmt: str) -> None:
    a, b = (ops.box_convert(random_boxes(k, seed=k), "xyxy", fmt).requires_grad_() for k in (4, 5))
    assert torch.autograd.gradcheck(lambda x, y: ops.box_iou(x, y, fmt), (a, b))
    half = a.detach().half().requires_grad_()
    ops.box_iou(half, half.detach(), fmt).sum().backward()
    assert half.grad is not None and half.grad.dtype == torch.float16


def test_gradient_of_half_boxes_is_half() -> None:
    a, b = (random_boxes(k, seed=k).to(torch.bfloat16).requires_grad_() for k in (4, 5))
    ops.generalized_box_iou(a, b).sum().backward()
    assert a.grad is not None and a.grad.dtype == torch.bfloat16 and a.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(kind: str, grad: bool) -> None:
    a, b = (random_boxes(k, seed=k).float().requires_grad_(grad) for k in (4, 5))
    opcheck(torch.ops.detcore.box_iou, (a, b, "xyxy", kind, 1e-7))
    a, b = a.detach(), b.detach()
    opcheck(torch.ops.detcore.box_iou_out, (a, b, "xyxy", kind, 1e-7, torch.empty(4, 5)))
    opcheck(torch.ops.detcore.box_iou_backward, (torch.ones(4, 5), a, b, kind, 1e-7))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: ops.box_iou(a[:, :3], a), "box_iou: boxes1 must be [..., 4], got [7, 3]"),
        (lambda a: ops.box_iou(a[0], a), "box_iou: boxes1 must be [..., N, 4], got [4]"),
        (lambda a: ops.box_iou(a, a[0]), "box_iou: boxes2 must be [..., M, 4], got [4]"),
        (
            lambda a: ops.box_iou(a.view(1, 7, 4), a),
            "box_iou: boxes1 and boxes2 must have the same leading dimensions, "
            "got [1, 7, 4] and [7, 4]",
        ),
        (
            lambda a: ops.distance_box_iou(a[:, :3], a),
            "distance_box_iou: boxes1 must be [..., 4], got [7, 3]",
        ),
        (
            lambda a: ops.complete_box_iou(a.bool(), a),
            "complete_box_iou: boxes1 must be real numbers, got bool",
        ),
        (
            lambda a: bind("box_iou_backward")(a, a, a, "iou", 0.0),
            "box_iou: grad must be [7, 7], got [7, 4]",
        ),
        (
            lambda a: ops.box_iou(a.requires_grad_(), a, "yxyx"),
            "box_iou: fmt must be one of xyxy, xywh, cxcywh, xywhr, cxcywhr, xyxyxyxy, got 'yxyx'",
        ),
        (
            lambda a: ops.box_iou(a, a, "yxyx"),
            "box_iou: fmt must be one of xyxy, xywh, cxcywh, xywhr, cxcywhr, xyxyxyxy, got 'yxyx'",
        ),
        (
            lambda a: ops.box_iou(a, a, out=torch.empty(7, 6)),
            "box_iou: out must be a contiguous [7, 7], got [7, 6]",
        ),
        (
            lambda a: ops.box_iou(a, a, out=torch.empty(7, 7, dtype=torch.float64)),
            "box_iou: out must be float32, got float64",
        ),
        (
            lambda a: ops.box_iou(a.requires_grad_(), a, out=torch.empty(7, 7)),
            "box_iou: out must not be given where gradients are needed",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(random_boxes(7).float())
    assert str(raised.value) == words


def test_threads_do_not_change_the_answer() -> None:
    a, b = random_boxes(200, seed=1).float(), random_boxes(3000, seed=2).float()
    grad = torch.randn(200, 3000)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            backward = torch.ops.detcore.box_iou_backward(grad, a, b, "giou", 0.0)
            results.append((ops.box_iou(a, b), *backward))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for r in results[1:] for x, y in zip(results[0], r, strict=True))
