"""Derivatives of any order and mode, torch.func's transforms and vmap, against the formulas."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, func
from torch.autograd import forward_ad

from detcore import ops, reference
from detcore.ops.registry import CALLS

from .conftest import random_boxes

# not the pooling ops: their maps are too large for a hessian, and roi_align has no forward mode
SMOOTH = {
    name: call for name, call in CALLS.items() if call.gradients and "roi_" not in call.operator
}
Scalar = Callable[..., Tensor]


def boxes(n: int, seed: int = 0) -> Tensor:
    return random_boxes(n, seed=seed)


def both(name: str, n: int = 4) -> tuple[Scalar, Scalar, list[Tensor]]:
    """The op and its reference as a curved function of the tensors with a gradient, and these."""
    call = SMOOTH[name]
    samples = [t.double() if t.is_floating_point() else t for t in call.samples(3, n)]
    run = call.reference or call.run

    def scalar(on: object, way: Callable[..., object]) -> Scalar:
        def f(*leading: Tensor) -> Tensor:
            out = way(on, *leading, *samples[len(leading) :])
            first = out[0] if isinstance(out, tuple) else out
            assert isinstance(first, Tensor)
            return (first * 0.1).sin().sum()

        return f

    assert call.gradients == tuple(range(len(call.gradients)))
    return scalar(ops, call.run), scalar(reference, run), samples[: len(call.gradients)]


def close(got: object, want: object) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


TRANSFORMS: dict[str, Callable[[Scalar, list[Tensor]], object]] = {
    "grad": lambda f, x: func.grad(f)(*x),
    "vjp": lambda f, x: func.vjp(f, *x)[1](torch.tensor(2.0, dtype=torch.float64)),
    "jvp": lambda f, x: func.jvp(f, tuple(x), tuple(t.cos() for t in x)),
    "jacfwd": lambda f, x: func.jacfwd(f)(*x),
    "jacrev": lambda f, x: func.jacrev(f)(*x),
    "hessian": lambda f, x: func.hessian(f)(*x),
    "jacrev of grad": lambda f, x: func.jacrev(func.grad(f))(*x),
    "jacfwd of jacfwd": lambda f, x: func.jacfwd(func.jacfwd(f))(*x),
    "third": lambda f, x: func.grad(
        lambda *y: func.grad(lambda *z: func.grad(f)(*z).sin().sum())(*y).sin().sum()
    )(*x),
    "vmap of grad": lambda f, x: func.vmap(func.grad(f))(*(torch.stack((t, t + 1)) for t in x)),
    "grad of vmap": lambda f, x: func.grad(
        lambda *y: func.vmap(f)(*(torch.stack((t, t * 2)) for t in y)).sum()
    )(*x),
    "autograd's hessian": lambda f, x: torch.autograd.functional.hessian(f, tuple(x)),
    "autograd's jvp": lambda f, x: torch.autograd.functional.jvp(f, tuple(x), tuple(x)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", SMOOTH)
def test_equals_the_formula(name: str, transform: str) -> None:
    op, formula, x = both(name)
    close(TRANSFORMS[transform](op, x), TRANSFORMS[transform](formula, x))


@pytest.mark.parametrize("name", ["box_iou", "paired_box_iou", "decode_boxes", "decode_dense"])
def test_under_compile(name: str) -> None:
    """Compiled, the transforms must neither fail nor drop a tangent without a word."""
    op, formula, x = both(name)
    for transform in ("jvp", "hessian"):
        run = TRANSFORMS[transform]
        torch.compiler.reset()  # else the number of recompilations of one lambda is limited
        compiled = torch.compile(lambda *x, run=run: run(op, x), fullgraph=True, backend="eager")
        close(compiled(*x), run(formula, x))


def test_dual_numbers_under_compile() -> None:
    """A dual level inside compiled code must not lose its tangent either."""
    a, b = boxes(4, 1), boxes(3, 2)

    def tangent(on: object, x: Tensor) -> Tensor | None:
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, x.cos())
            return forward_ad.unpack_dual(on.box_iou(dual, b)).tangent  # type: ignore[attr-defined]

    torch.compiler.reset()
    compiled = torch.compile(lambda x: tangent(ops, x), backend="eager")
    close(compiled(a), tangent(reference, a))


def test_indices_in_a_compiled_gradient() -> None:
    a = boxes(9)
    gradient = func.grad(lambda x: x[ops.nms(x, x[:, 0], 0.3)].sin().sum())
    if torch.__version__ < "2.14":
        pytest.skip("older torch traces no index of unknown length under func.grad")
    torch.compiler.reset()
    close(torch.compile(gradient, backend="eager")(a), gradient(a))


def test_second_derivatives_are_those_of_the_first() -> None:
    """Against finite differences. Not CIoU: its weight is a constant of its own gradient."""
    a, b = (boxes(n, seed).requires_grad_() for n, seed in ((3, 1), (2, 2)))
    for call in (ops.box_iou, ops.generalized_box_iou, ops.distance_box_iou):
        assert torch.autograd.gradgradcheck(lambda a, b, call=call: call(a, b).sin(), (a, b))
    same = boxes(3, 3).requires_grad_()
    for loss in (ops.generalized_box_iou_loss, ops.distance_box_iou_loss):
        assert torch.autograd.gradgradcheck(lambda a, b, loss=loss: loss(a, b), (a, same))
    assert torch.autograd.gradgradcheck(ops.encode_boxes, (a, same))
    deltas = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(ops.decode_boxes, (deltas, a))


def test_second_derivatives_of_dependent_boxes() -> None:
    """Boxes made of one another have partial derivatives of their own."""
    a = boxes(4).requires_grad_()
    for on in (ops, reference):
        b = a * 1.1
        (first,) = torch.autograd.grad(on.box_iou(a, b).sin().sum(), a, create_graph=True)
        first.square().sum().backward()
        if on is ops:
            found, a.grad = a.grad, None
    close(found, a.grad)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_roi_pool_under_every_transform(transform: str) -> None:
    rois = torch.tensor([[0.0, 0, 0, 3, 2], [0, 1, 1, 1, 1]], dtype=torch.float64)
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64)
    found = [
        TRANSFORMS[transform](lambda x, on=on: on.roi_pool(x, rois, (2, 2)).sin().sum(), [x])
        for on in (ops, reference)
    ]
    close(*found)


@pytest.mark.parametrize("channels_last", [False, True])
def test_second_derivatives_of_pooling(channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    rois = torch.tensor([[0.0, 1, 1, 5, 6], [1, 0, 2, 4, 4]], dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda x: ops.roi_align(x, rois, 2, sampling_ratio=2).sin(), (x,)
    )
    assert torch.autograd.gradgradcheck(
        lambda x: ops.multiscale_roi_align([x, x[..., ::2, ::2]], rois, 2, [1, 0.5], 2).sin(), (x,)
    )


def test_pooling_under_torch_func() -> None:
    x = torch.randn(1, 3, 8, 6, dtype=torch.float64)
    rois = torch.tensor([[0.0, 1, 1, 5, 6]], dtype=torch.float64)

    def pooled(on: object, x: Tensor) -> Tensor:
        return on.roi_align(x, rois, (2, 2), sampling_ratio=2).sin().sum()  # type: ignore[attr-defined]

    leaf = x.clone().requires_grad_()
    pooled(reference, leaf).backward()
    close(func.grad(lambda x: pooled(ops, x))(x), leaf.grad)
    close(
        func.jacrev(func.grad(lambda x: pooled(ops, x)))(x),
        torch.autograd.functional.hessian(lambda x: pooled(reference, x), x),
    )
    with pytest.raises(NotImplementedError, match=r"^roi_align: forward-mode differentiation"):
        func.jvp(lambda x: pooled(ops, x), (x,), (x,))
    with pytest.raises(NotImplementedError, match=r"^multiscale_roi_align: derivatives by torch"):
        func.grad(lambda x: ops.multiscale_roi_align([x], rois, 2, [1.0]).sum())(x)
    for transform in (
        func.grad(lambda x: pooled(ops, x)),
        lambda x: func.jvp(lambda x: pooled(ops, x), (x,), (x,))[1],
    ):
        # torch.compile makes an error of its own class of ours
        with pytest.raises(Exception, match=r"roi_align: derivatives by torch.func are not supp"):
            torch.compile(transform, fullgraph=True, backend="eager")(x)


@pytest.mark.parametrize("name", ["box_iou", "paired_box_iou", "decode_boxes", "decode_dense"])
def test_dual_numbers(name: str) -> None:
    op, formula, x = both(name)
    tangents = []
    for f in (op, formula):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x[0], x[0].cos())
            tangents.append(forward_ad.unpack_dual(f(dual, *x[1:])).tangent)
    close(*tangents)


def test_what_has_no_gradient_stands_in_a_transformed_function() -> None:
    """Indices are computed on the way, as by torchvision's nms."""
    x, scores = boxes(9), torch.rand(9, dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return x[ops.nms(x, scores, 0.3)].sin().sum()

    leaf = x.clone().requires_grad_()
    f(leaf).backward()
    close(func.grad(f)(x), leaf.grad)
    close(func.jacfwd(f)(x), leaf.grad)
    with forward_ad.dual_level():
        assert ops.nms(forward_ad.make_dual(x, x), scores, 0.3).dtype == torch.int64
    with pytest.raises(RuntimeError, match=r"^multiclass_nms: it has no gradient; "):
        func.grad(lambda s: ops.multiclass_nms(x[None], s[None, :, None])[1].sum())(scores)
    with pytest.raises(NotImplementedError, match=r"^multiclass_nms: forward-mode diff"):
        func.jvp(lambda s: ops.multiclass_nms(x[None], s[None, :, None])[1], (scores,), (scores,))


BATCHES: dict[str, tuple[Callable[..., object], list[Tensor]]] = {
    "box_iou": (ops.box_iou, [boxes(15, 1).view(3, 5, 4), boxes(12, 2).view(3, 4, 4)]),
    "complete_box_iou": (
        ops.complete_box_iou, [boxes(15, 1).view(3, 5, 4), boxes(12, 2).view(3, 4, 4)],
    ),
    "paired_box_iou": (ops.paired_box_iou, [boxes(15, k).view(3, 5, 4) for k in (1, 2)]),
    "giou_loss": (ops.generalized_box_iou_loss, [boxes(15, k).view(3, 5, 4) for k in (1, 2)]),
    "encode_boxes": (ops.encode_boxes, [boxes(15, k).view(3, 5, 4) for k in (1, 2)]),
    "decode_boxes": (ops.decode_boxes, [torch.randn(3, 5, 8), boxes(15).float().view(3, 5, 4)]),
    "no boxes": (ops.encode_boxes, [torch.zeros(3, 0, 4)] * 2),
    "decode_dense": (
        lambda maps: ops.decode_dense(maps, None, 8, "ltrb"), [torch.randn(3, 2, 6, 4, 5)],
    ),
    "multiclass_nms": (
        lambda b, s: ops.multiclass_nms(b, s, 0.1),
        [boxes(60).view(3, 2, 10, 4), torch.rand(3, 2, 10, 4, dtype=torch.float64)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_vmap_is_one_call(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """By a rule: torch's own way, one call per item, warns."""
    call, tensors = BATCHES[name]
    each = [call(*(t[i] for t in tensors)) for i in range(3)]
    stack = (
        tuple(map(torch.stack, zip(*each, strict=True)))  # type: ignore[call-overload]
        if isinstance(each[0], tuple)
        else torch.stack(each)  # type: ignore[arg-type]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(func.vmap(call)(*tensors), stack, rtol=0, atol=0)
        moved = [t.movedim(0, 1) for t in tensors]
        torch.testing.assert_close(func.vmap(call, in_dims=1)(*moved), stack, rtol=0, atol=0)
        if len(tensors) == 2:
            one = func.vmap(call, in_dims=(0, None))(tensors[0], tensors[1][0])
            torch.testing.assert_close(
                [o[0] for o in one] if isinstance(one, tuple) else one[0],
                list(each[0]) if isinstance(each[0], tuple) else each[0], rtol=0, atol=0,
            )  # fmt: skip
    assert "batching rule" not in capfd.readouterr().err


@pytest.mark.parametrize("name", BATCHES)
def test_vmap_of_an_empty_batch(name: str) -> None:
    call, tensors = BATCHES[name]
    some, none = func.vmap(call)(*tensors), func.vmap(call)(*(t[:0] for t in tensors))
    pairs = zip(some, none, strict=True) if isinstance(some, tuple) else [(some, none)]
    for full, empty in pairs:
        assert empty.shape == (0, *full.shape[1:]) and empty.dtype == full.dtype


def test_vmap_of_anchors_is_refused() -> None:
    maps, anchors = torch.randn(3, 1, 6, 2, 2), torch.rand(3, 1, 4)
    with pytest.raises(NotImplementedError, match=r"vmap takes batches of maps alone"):
        func.vmap(lambda m, a: ops.decode_dense(m, a, 8)[0])(maps, anchors)
