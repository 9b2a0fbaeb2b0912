"""ProbIoU and KFIoU: values by their papers' matrices, by Ultralytics' formula, and gradients."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from detcore import ops
from detcore.ops.samples import random_rotated_boxes

LOSSES = [
    ops.probiou_loss,
    partial(ops.probiou_loss, mode="l2"),
    ops.kfiou_loss,
    partial(ops.kfiou_loss, function="ln"),
    partial(ops.kfiou_loss, function="exp"),
]


def covariance(boxes: Tensor, scale: float) -> Tensor:
    """[..., 2, 2] of the boxes' Gaussians, by rotation matrices."""
    angle = boxes[..., 4] * math.pi / 180
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack((cos, sin, -sin, cos), -1).unflatten(-1, (2, 2))
    return turned @ torch.diag_embed(scale * boxes[..., 2:4] ** 2) @ turned.mT


def boxes(seed: int, n: int = 50) -> Tensor:
    return random_rotated_boxes(n, 40, seed=seed, thin=20)


def test_probiou_is_the_hellinger_distance() -> None:
    a, b = boxes(1), boxes(2)
    first, second = covariance(a, 1 / 12), covariance(b, 1 / 12)
    mean = (first + second) / 2
    offset = (a - b)[:, :2, None]
    bhattacharyya = (offset.mT @ mean.inverse() @ offset)[:, 0, 0] / 8 + torch.log(
        mean.det() / (first.det() * second.det()).sqrt()
    ) / 2
    want = (1 - (-bhattacharyya).exp()).sqrt()
    torch.testing.assert_close(ops.probiou_loss(a, b, eps=0.0), want)
    torch.testing.assert_close(ops.probiou_loss(a, b, mode="l2"), bhattacharyya)
    single = ops.probiou_loss(a.float(), b.float())
    torch.testing.assert_close(single.double(), want, rtol=0, atol=1e-4)


def test_probiou_is_ultralytics() -> None:
    """Values of ultralytics.utils.metrics.probiou (8.4.190, in float64), of angles in radians."""
    a = torch.tensor([[50.0, 50, 40, 10, 0.3], [10, 20, 30, 30, 1.2], [5, 5, 8, 2, -0.4]])
    b = torch.tensor([[52.0, 50, 40, 10, 0.5], [15, 18, 20, 35, 1.0], [50, 5, 8, 2, -0.4]])
    want = torch.tensor([0.7293090797603897, 0.7100610667959188, -4.999999880794803e-08])
    turned = [torch.cat((x[:, :4], -x[:, 4:] * 180 / math.pi), 1) for x in (a, b)]
    torch.testing.assert_close(1 - ops.probiou_loss(*turned), want, rtol=0, atol=2e-4)


def test_kfiou_is_the_overlap_of_gaussians() -> None:
    a, b = boxes(3), boxes(4)
    first, second = covariance(a, 1 / 4), covariance(b, 1 / 4)
    gain = first @ (first + second).inverse()
    shared = 4 * (first - gain @ first).det().sqrt()
    area1, area2 = (x[:, 2] * x[:, 3] for x in (a, b))
    kfiou = shared / (area1 + area2 - shared)
    torch.testing.assert_close(1 - ops.kfiou_loss(a, b, eps=0.0), kfiou)
    torch.testing.assert_close(ops.kfiou_loss(a, b, eps=0.0, function="ln"), -kfiou.log())
    exponential = ops.kfiou_loss(a, b, eps=0.0, function="exp")
    torch.testing.assert_close(exponential, (1 - kfiou).exp() - 1)
    torch.testing.assert_close(ops.kfiou_loss(a, a, eps=0.0), torch.full_like(kfiou, 2 / 3))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck(loss: partial[Tensor]) -> None:
    a, b = boxes(5, 9).requires_grad_(), boxes(6, 9).requires_grad_()
    assert torch.autograd.gradcheck(loss, (a, b))


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_boxes_have_a_finite_gradient(loss: partial[Tensor]) -> None:
    for thin in (1.0, 1000.0):
        a = random_rotated_boxes(20, thin=thin).float().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(a, a.detach()).sum(), a)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_edges(loss: partial[Tensor]) -> None:
    a, b = boxes(7, 6).float(), boxes(8, 6).float()
    each = loss(a, b)
    torch.testing.assert_close(loss(a, b, "mean"), each.mean())
    torch.testing.assert_close(loss(a, b, "sum"), each.sum())
    assert loss(a[:0], b[:0], "mean") == 0 and loss(a[:0], b[:0]).shape == (0,)
    assert loss(a.half(), b.half()).dtype == torch.float32
    assert loss(a.view(2, 3, 5), b.view(2, 3, 5)).shape == (2, 3)
    torch.testing.assert_close(loss(b, a), each)
    a[0, 2] = math.nan
    assert loss(a, b).isnan().tolist() == [True] + [False] * 5
    a[0, 2] = 0.0
    assert not loss(a, b).isnan().any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: ops.probiou_loss(a[:, :4], a), r"probiou_loss: boxes1 must be \[..., 5\]"),
        (lambda a: ops.kfiou_loss(a, a[:1]), r"one shape, got \[3, 5\] and \[1, 5\]"),
        (lambda a: ops.kfiou_loss(a, a, function="log"), "must be linear, ln or exp, got 'log'"),
        (lambda a: ops.probiou_loss(a, a, mode="l3"), "mode must be l1 or l2, got 'l3'"),
        (lambda a: ops.probiou_loss(a, a, "avg"), "probiou_loss: Invalid reduction 'avg'"),
        (lambda a: ops.kfiou_loss(a > 0, a), "kfiou_loss: boxes1 must be real numbers, got bool"),
    ],
)
def test_wrong_calls_are_named(call: partial[Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(torch.ones(3, 5))
