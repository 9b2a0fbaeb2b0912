"""Streams, several devices and CUDA graphs, for every op.

Most tests need a GPU, and one needs two. Those with fake tensors run anywhere.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_leaves

from detcore import ops
from detcore.ops.registry import CALLS, OPERATORS

NAMES = list(CALLS)
WITH_GRADIENT = [name for name, call in CALLS.items() if call.gradients]
BACKWARD = [name for name, operator in OPERATORS.items() if operator.elsewhere]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


def sample(name: str, seed: int = 0) -> tuple[Callable[..., Any], list[Tensor]]:
    """A function whose arguments are all tensors, and CPU tensors for it."""
    return partial(CALLS[name].run, ops), CALLS[name].samples(seed, 60)


def with_gradient(name: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """As `sample`, but the function returns only the first of several results."""
    function, tensors = sample(name)
    return lambda *given: tree_leaves(function(*given))[0], tensors


def same(got: Any, want: Any) -> None:
    got, want = tree_leaves(got), tree_leaves(want)
    assert len(got) == len(want)
    for i, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        assert (ours is None) == (theirs is None), i
        assert ours is None or torch.equal(ours, theirs), i


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_its_own(name: str) -> None:
    """The inputs arrive late, on that stream: on any other stream the op would see zeros."""
    function, tensors = sample(name)
    given = [t.cuda() for t in tensors]
    want = function(*given)
    arriving = [torch.zeros_like(t) for t in given]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        for to, tensor in zip(arriving, given, strict=True):
            to.copy_(tensor)
        got = function(*arriving)
        assert torch.cuda.current_stream() == stream
    stream.synchronize()
    same(got, want)


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_gradients_on_a_stream_of_their_own(name: str) -> None:
    function, tensors = with_gradient(name)
    given = [t.cuda() for t in tensors]
    given[0].requires_grad_()
    out = function(*given)
    grad = torch.randn_like(out)
    (want,) = torch.autograd.grad(out, given[0], grad)
    arriving = torch.zeros_like(grad)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # backward runs on the stream of its forward
        out = function(*given)
        torch.cuda._sleep(50_000_000)
        arriving.copy_(grad)
        (got,) = torch.autograd.grad(out, given[0], arriving)
    stream.synchronize()
    same(got, want)


@pytest.mark.cuda
@needs_two
@pytest.mark.parametrize("name", NAMES)
def test_the_second_device(name: str) -> None:
    """The op uses the tensors' device, and the current device stays the same."""
    function, tensors = sample(name)
    with torch.cuda.device(0):
        want = function(*[t.to("cuda:0") for t in tensors])
        got = function(*[t.to("cuda:1") for t in tensors])
        assert torch.cuda.current_device() == 0
    assert all(t is None or t.device == torch.device("cuda:1") for t in tree_leaves(got))
    if torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1):
        same([t if t is None else t.cpu() for t in tree_leaves(got)],
             [t if t is None else t.cpu() for t in tree_leaves(want)])  # fmt: skip


def refusal(which: str, here: str, there: str) -> str:
    """The message if one of these two tensors is on device `there` and the others are `here`."""
    either = f"({here} and {there}|{there} and {here})"
    return f"^{re.escape(which)} must be on one device, got {either}$"


def refused(name: str, here: str, there: str) -> None:
    """Put one tensor after the other on another device than the rest."""
    function, tensors = sample(name)
    for odd, which in enumerate(CALLS[name].elsewhere):
        mixture = [t.to(there if k == odd else here) for k, t in enumerate(tensors)]
        with pytest.raises(ValueError, match=refusal(which, here, there)):
            function(*mixture)


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("name", NAMES)
def test_two_devices_are_refused(name: str) -> None:
    refused(name, "cuda:0", "cpu")
    refused(name, "cpu", "cuda:0")


@pytest.mark.cuda
@needs_two
@pytest.mark.parametrize("name", NAMES)
def test_two_gpus_are_refused(name: str) -> None:
    refused(name, "cuda:0", "cuda:1")


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("name", [n for n in NAMES if not CALLS[n].syncs])
def test_a_cuda_graph_holds_it(name: str) -> None:
    """Capture once, replay with other inputs: the op must not sync, allocate or store values."""
    function, tensors = sample(name)
    static = [t.cuda() for t in tensors]
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        function(*static)
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function(*static)
    for seed in (0, 1, 2):
        fresh = [t.cuda() for t in sample(name, seed)[1]]
        for to, tensor in zip(static, fresh, strict=True):
            to.copy_(tensor)
        graph.replay()
        same(found, function(*fresh))


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_a_cuda_graph_holds_its_gradient(name: str) -> None:
    function, tensors = with_gradient(name)
    static = [t.cuda() for t in tensors]
    static[0].requires_grad_()
    grad = torch.randn_like(function(*static))

    def gradient(inputs: list[Tensor]) -> Tensor:
        return torch.autograd.grad(function(*inputs), inputs[0], grad)[0]

    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        gradient(static)
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gradient(static)
    grad.copy_(torch.randn_like(grad))
    graph.replay()
    same(found, gradient(static))


# --- without a GPU -------------------------------------------------------------------------------
def fake(tensors: list[Tensor], devices: list[str]) -> list[Tensor]:
    """In a FakeTensorMode: tensors of the same shapes, dtypes and strides on those devices."""
    return [
        torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device)
        for t, device in zip(tensors, devices, strict=True)
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1", "meta"])
@pytest.mark.parametrize("name", NAMES)
def test_fake_results_are_on_the_tensors_device(name: str, device: str) -> None:
    function, tensors = sample(name)
    with FakeTensorMode(shape_env=ShapeEnv()):
        got = tree_leaves(function(*fake(tensors, [device] * len(tensors))))
    want = tree_leaves(function(*tensors))
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.device == torch.device(device) and ours.dtype == theirs.dtype
            if not CALLS[name].syncs:  # the length of the result is unknown
                assert ours.shape == theirs.shape and ours.stride() == theirs.stride()


@pytest.mark.parametrize("name", NAMES)
def test_meta_beside_real_is_refused(name: str) -> None:
    refused(name, "cpu", "meta")
    refused(name, "meta", "cpu")


def fakes_refused(
    function: Callable[..., Any], tensors: list[Tensor], elsewhere: tuple[str, ...]
) -> None:
    for here, there in (("cuda:0", "cpu"), ("cuda:0", "cuda:1")):
        for odd, which in enumerate(elsewhere):
            devices = [there if k == odd else here for k in range(len(tensors))]
            words = refusal(which, here, there)
            with FakeTensorMode(shape_env=ShapeEnv()), pytest.raises(ValueError, match=words):
                function(*fake(tensors, devices))


@pytest.mark.parametrize("name", NAMES)
def test_fakes_on_two_devices_are_refused(name: str) -> None:
    fakes_refused(*sample(name), CALLS[name].elsewhere)


@pytest.mark.parametrize("name", BACKWARD)
def test_fake_gradients_on_two_devices_are_refused(name: str) -> None:
    arguments = OPERATORS[name].arguments()
    places = [k for k, value in enumerate(arguments) if isinstance(value, Tensor)]

    def function(*tensors: Tensor) -> Any:
        filled = dict(zip(places, tensors, strict=True))
        return getattr(torch.ops.detcore, name)(
            *(filled.get(k, v) for k, v in enumerate(arguments))
        )

    tensors = [arguments[k] for k in places]
    function(*tensors)
    fakes_refused(function, tensors, OPERATORS[name].elsewhere)
