"""Plain eager tensors use the pybind11 entry; all other calls use torch's operator."""

import resource
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detcore import ops
from detcore.ops import _route
from detcore.ops.registry import CALLS

from .conftest import random_boxes


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The routes of calls that returned a result; a call that raises is not recorded."""
    taken: list[str] = []

    class Spy:
        def __getattr__(self, op: str):
            def entry(*args):
                result = getattr(native, op)(*args)
                taken.append("entry")
                return result

            return entry

    native = _route._C
    monkeypatch.setattr(_route, "_C", Spy())
    return taken


def boxes(n: int = 5) -> Tensor:
    return random_boxes(n).float()


def test_plain_tensors_take_the_entry(ways: list[str]) -> None:
    ops.box_iou(boxes(), boxes())
    ops.box_iou(torch.nn.Parameter(boxes(), requires_grad=False), boxes())
    with torch.inference_mode():
        ops.box_iou(boxes(), boxes())
    with torch.no_grad():
        ops.box_iou(boxes().requires_grad_(), boxes())
    with torch.autocast("cpu", torch.bfloat16):
        ops.box_iou(boxes(), boxes())
    assert ways == ["entry"] * 5


def test_gradients_take_the_operator(ways: list[str]) -> None:
    out = ops.box_iou(boxes().requires_grad_(), boxes())
    assert out.requires_grad and ways == []


def test_lists_of_tensors_are_looked_into(ways: list[str]) -> None:
    maps = [torch.randn(1, 2, 8 >> i, 8 >> i) for i in range(2)]
    rois = torch.tensor([[0.0, 1, 1, 6, 6]])

    def pool(*maps: Tensor) -> Tensor:
        return ops.multiscale_roi_align(maps, rois.to(maps[0].device), 2, [0.5, 0.25])

    want = pool(*maps)
    assert ways == ["entry"]
    assert pool(maps[0], maps[1].clone().requires_grad_()).requires_grad
    assert pool(*(m.to("meta") for m in maps)).is_meta
    torch.testing.assert_close(pool(maps[0], torch._neg_view(-maps[1])), want)
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):  # by torch, for lists
        torch.vmap(pool)(maps[0][None], maps[1][None])
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(maps[1], torch.ones_like(maps[1]))
        with pytest.raises(NotImplementedError, match="forward-mode differentiation"):
            pool(maps[0], dual)
    assert ways == ["entry"]
    with pytest.raises(TypeError) as raised:
        ops.multiscale_roi_align([maps[0], None], rois, 2, [0.5, 0.25])  # type: ignore[list-item]
    words = "multiscale_roi_align: features[1] must be a tensor, got NoneType"
    assert str(raised.value) == words


def test_forward_mode_duals_are_not_stripped(ways: list[str]) -> None:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(boxes(), torch.ones(5, 4))
        assert forward_ad.unpack_dual(ops.box_iou(dual, boxes())).tangent is not None
        with pytest.raises(NotImplementedError, match="soft_nms: forward-mode differentiation"):
            ops.soft_nms(dual, boxes()[:, 0])
        ops.box_iou(boxes(), boxes())  # no tangent that could get lost
    assert ways == []


def test_lazy_negation_is_seen(ways: list[str]) -> None:
    negative = torch.view_as_complex(-boxes().reshape(5, 2, 2)).conj().imag
    assert negative.is_neg()
    flat = torch.stack((negative, negative), -1).reshape(5, 4)  # plain again
    assert not flat.is_neg()
    lazy = torch._neg_view(-boxes())
    torch.testing.assert_close(ops.box_iou(lazy, boxes()), ops.box_iou(boxes(), boxes()))
    assert ways == ["entry"]  # the second one


def test_zero_tensors(ways: list[str]) -> None:
    """Zero tensors have no memory at all."""
    zeros = torch._efficientzerotensor((3, 4))
    assert ops.box_iou(zeros, boxes()).shape == (3, 5) and ways == []


def test_sparse_tensors_are_the_dispatchers_to_refuse(ways: list[str]) -> None:
    with pytest.raises(NotImplementedError, match="Sparse"):
        ops.box_iou(boxes().to_sparse(), boxes())
    assert ways == []


def test_without_a_handover_the_operators_serve(
    ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a torch that can't convert tensors for the extension."""
    want = ops.nms(boxes(), torch.arange(5.0), 0.5)
    monkeypatch.setattr(_route, "_ENTRIES", False)
    assert torch.equal(ops.nms(boxes(), torch.arange(5.0), 0.5), want)
    assert ways == ["entry"]  # the first call


def test_the_handover_is_the_one_that_this_torch_has() -> None:
    version = tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2])
    has = "stable ABI" if version >= (2, 14) else "torch._C._aoti"
    assert _route._C.handover() == has


def test_the_handover_counts_references_right() -> None:
    """Arguments and results are neither leaked nor freed too early."""
    a = boxes(500)
    fresh = torch.empty(1)
    counts = sys.getrefcount(a), a._use_count()
    first = ops.box_iou(a, a)
    assert (sys.getrefcount(first), first._use_count()) == (
        sys.getrefcount(fresh),
        fresh._use_count(),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(500):  # one megabyte each
        assert ops.box_iou(a, a).shape == (500, 500)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    assert (sys.getrefcount(a), a._use_count()) == counts
    assert torch.equal(first, ops.box_iou(a, a))


def test_first_import_under_a_mode() -> None:
    code = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode
class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        seen.append(str(func))
        return func(*args, **(kwargs or {}))
seen, boxes = [], torch.rand(3, 4)
with Mode():
    from detcore import ops
    ops.box_iou(boxes, boxes)
assert any("box_iou" in s for s in seen), seen
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keywords_in_any_order() -> None:
    b, s = boxes(), torch.rand(5)
    assert torch.equal(ops.nms(iou_threshold=0.5, boxes=b, scores=s), ops.nms(b, s, 0.5))


def test_meta_tensors(ways: list[str]) -> None:
    assert ops.box_iou(boxes().to("meta"), boxes(7).to("meta")).shape == (5, 7)
    assert ways == []


def test_subclasses(ways: list[str]) -> None:
    class Boxes(Tensor):
        pass

    out = ops.box_iou(boxes().as_subclass(Boxes), boxes())
    assert type(out) is Boxes and ways == []


def test_vmap(ways: list[str]) -> None:
    a, b = random_boxes(12).view(3, 4, 4), random_boxes(15).view(3, 5, 4)
    got = torch.vmap(ops.box_iou)(a, b)
    torch.testing.assert_close(got, ops.box_iou(a, b))
    assert ways == ["entry"]  # the second call


def test_make_fx(ways: list[str]) -> None:
    graph = make_fx(lambda x: ops.box_iou(x, x))(boxes())
    assert "detcore.box_iou" in graph.code and ways == []


def test_dispatch_and_function_modes(ways: list[str]) -> None:
    seen = []

    class Dispatch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    class Function(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    a, b = boxes(), boxes()
    with Dispatch():
        ops.box_iou(a, b)
    with Function():
        ops.box_iou(a, b)
    assert sum("box_iou" in s for s in seen) == 2 and ways == []


@pytest.mark.parametrize("name", CALLS)
def test_compile_and_export(name: str) -> None:
    torch._dynamo.reset()  # all share one code object, which has a limit of versions
    call = CALLS[name]
    args = tuple(call.samples(0, 20))

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tree_leaves(call.run(ops, *tensors)))

    want = function(*args)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*args), want)

    class Module(torch.nn.Module):
        def forward(self, *args):
            return function(*args)

    program = torch.export.export(Module(), args)
    # a formula in plain PyTorch would give the same result
    assert f"torch.ops.detcore.{call.operator}.default" in program.graph_module.code
    torch.testing.assert_close(program.module()(*args), want)
    if call.gradients:
        given = [t.clone() for t in args]
        leaves = [given[k].requires_grad_() for k in call.gradients]
        grads = [
            torch.autograd.grad(f(*given)[0].sum(), leaves, materialize_grads=True)
            for f in (function, compiled)
        ]
        torch.testing.assert_close(*grads)


@pytest.mark.slow
def test_compile_with_inductor() -> None:
    function = partial(CALLS["roi_align"].run, ops)
    args = CALLS["roi_align"].samples(0, 20)
    compiled = torch.compile(function, fullgraph=True)
    torch.testing.assert_close(compiled(*args), function(*args))


def test_numpy_in_numpy_out() -> None:
    a, s = boxes(8).numpy(), torch.rand(8).numpy()
    iou = ops.box_iou(a, a)
    assert isinstance(iou, np.ndarray) and iou.dtype == np.float32
    np.testing.assert_array_equal(
        iou, ops.box_iou(torch.from_numpy(a), torch.from_numpy(a)).numpy()
    )
    assert isinstance(ops.nms(a, s, 0.5), np.ndarray)
    assert isinstance(ops.batched_nms(a, s, np.arange(8) % 2, 0.5), np.ndarray)
    assert all(isinstance(found, np.ndarray) for found in ops.soft_nms(a, s))
    found = ops.multiclass_nms(a[None], s[None, :, None])
    assert all(isinstance(x, np.ndarray) for x in found) and found[2].shape == (1, 100)
    assert isinstance(ops.box_area(a), np.ndarray)
    np.testing.assert_array_equal(ops.box_iou(a[::-1], a), iou[::-1])
    swapped = a.astype(">f4")
    np.testing.assert_array_equal(ops.box_iou(swapped, a), iou)
    frozen = a.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(ops.box_iou(frozen, a), iou)
    features = np.ones((1, 2, 6, 6), np.float32)
    pooled = ops.roi_align(features, [np.array([[0, 0, 4, 4]], np.float32)], 2)
    assert isinstance(pooled, np.ndarray) and pooled.shape == (1, 2, 2, 2)
    boxes_of_one = [np.array([[0, 0, 4, 4]], np.float32)]
    pooled = ops.multiscale_roi_align([features, features], boxes_of_one, 2, [1, 0.5])
    assert isinstance(pooled, np.ndarray) and pooled.shape == (1, 2, 2, 2)
    boxes_out, scores_out = ops.decode_dense(np.zeros((1, 6, 2, 2), np.float32), None, 8, "grid")
    assert isinstance(boxes_out, np.ndarray) and isinstance(scores_out, np.ndarray)


def test_what_is_no_tensor_is_a_clear_error() -> None:
    with pytest.raises(TypeError) as raised:
        ops.nms([[0, 0, 1, 1]], [0.5], 0.5)  # type: ignore[arg-type]
    assert str(raised.value) == "nms: boxes must be a tensor or an array, got list"
    with pytest.raises(TypeError) as raised:
        ops.nms(boxes(), None, 0.5)  # type: ignore[arg-type]
    assert str(raised.value) == "nms: scores must be a tensor, got NoneType"


def test_numpy_out() -> None:
    a = boxes().numpy()
    out = np.full((5, 5), -1, np.float32)
    assert ops.box_iou(a, a, out=out) is out
    np.testing.assert_array_equal(out, ops.box_iou(a, a))
    for bad in (out[::-1], out.astype(">f4"), np.asfortranarray(out)):
        with pytest.raises(ValueError, match="box_iou: out must be a writable, contiguous array"):
            ops.box_iou(a, a, out=bad)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_two_devices_are_refused() -> None:
    with pytest.raises(ValueError) as raised:
        ops.box_iou(boxes().cuda(), boxes())
    assert str(raised.value) == (
        "box_iou: boxes1 and boxes2 must be on one device, got cuda:0 and cpu"
    )
