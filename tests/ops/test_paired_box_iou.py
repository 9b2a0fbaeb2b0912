import pytest
import torch
from torch.library import opcheck

from detcore import ops, reference

from .conftest import FLOATS, Backend, random_boxes
from .peers import tv

KINDS = ("iou", "giou", "diou", "ciou")
LOSSES = ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1021])
def test_equals_reference(backend: Backend, n: int, dtype: torch.dtype, kind: str) -> None:
    a, b = (backend(random_boxes(n, seed=s).to(dtype)) for s in (1, 2))
    got = ops.paired_box_iou(a, b, kind)
    want = reference.paired_box_iou(a, b, kind)
    assert got.dtype == want.dtype and got.shape == (n,)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_diagonal_of_the_pairwise_function(backend: Backend, kind: str) -> None:
    a, b = (backend(random_boxes(50, seed=s).float()) for s in (3, 4))
    matrix = reference.box_iou(a, b, kind=kind, eps=0.0)
    torch.testing.assert_close(ops.paired_box_iou(a, b, kind, eps=0.0), matrix.diagonal())


@pytest.mark.parametrize("kind", KINDS)
def test_any_leading_dimensions(backend: Backend, kind: str) -> None:
    a, b = (backend(random_boxes(24, seed=s).float()) for s in (5, 6))
    flat = ops.paired_box_iou(a, b, kind)
    assert torch.equal(ops.paired_box_iou(a.view(2, 3, 4, 4), b.view(2, 3, 4, 4), kind),
                       flat.view(2, 3, 4))  # fmt: skip
    assert ops.paired_box_iou(a[0], b[0], kind).shape == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 65, 500])
def test_gradient_equals_autograd_of_reference(backend: Backend, n: int, kind: str) -> None:
    a, b = (random_boxes(n, seed=s, whole=True).requires_grad_() for s in (7, 8))
    grad = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    want = torch.autograd.grad(reference.paired_box_iou(a, b, kind), (a, b), grad)
    got = backend.native("paired_box_iou_backward")(
        backend(grad), backend(a.detach()), backend(b.detach()), "xyxy", kind, 1e-7
    )
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.cpu(), w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_gradcheck(kind: str) -> None:
    a, b = (random_boxes(6, seed=s).requires_grad_() for s in (9, 10))
    assert torch.autograd.gradcheck(lambda x, y: ops.paired_box_iou(x, y, kind), (a, b))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_equal_torchvision(loss: str, reduction: str) -> None:
    ours, theirs = getattr(ops, loss), getattr(tv, loss)
    for n in (0, 1, 40):
        a, b = (random_boxes(n, seed=s).float().requires_grad_() for s in (11, 12))
        got, want = ours(a, b, reduction), theirs(a, b, reduction)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        for g, w in zip(
            torch.autograd.grad(got.sum(), (a, b)),
            torch.autograd.grad(want.sum(), (a, b)),
            strict=True,
        ):
            torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-6)


def test_loss_of_empty_boxes_is_not_nan() -> None:
    boxes = torch.zeros(3, 4, requires_grad=True)
    ops.generalized_box_iou_loss(boxes, torch.zeros(3, 4), "sum").backward()
    assert boxes.grad is not None and boxes.grad.isfinite().all()


def test_focal_loss_equals_torchvision() -> None:
    x, y = torch.randn(50, 7), (torch.rand(50, 7) > 0.8).float()
    for alpha in (-1, 0.25):
        torch.testing.assert_close(
            ops.sigmoid_focal_loss(x, y, alpha, 2, "mean"),
            tv.sigmoid_focal_loss(x, y, alpha, 2, "mean"),
        )


@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(grad: bool) -> None:
    a, b = (random_boxes(6, seed=s).float().requires_grad_(grad) for s in (13, 14))
    opcheck(torch.ops.detcore.paired_box_iou, (a, b, "xyxy", "ciou", 1e-7))
    opcheck(torch.ops.detcore.paired_box_iou_backward,
            (torch.ones(6), a.detach(), b.detach(), "xyxy", "giou", 1e-7))  # fmt: skip


def test_errors() -> None:
    a = random_boxes(7).float()
    with pytest.raises(ValueError) as raised:
        ops.paired_box_iou(a, a[:5])
    assert str(raised.value) == (
        "paired_box_iou: boxes1 and boxes2 must have one shape, got [7, 4] and [5, 4]"
    )
    with pytest.raises(ValueError) as raised:
        ops.paired_box_iou(a, a, "eiou")
    assert (
        str(raised.value) == "paired_box_iou: kind must be one of iou, giou, diou, ciou, got 'eiou'"
    )
