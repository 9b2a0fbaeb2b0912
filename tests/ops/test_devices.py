"""Streams, several devices, CUDA graphs: what a tensor's device asks of every op.

Most of it needs a GPU, one test needs two; fake tensors show some of it anywhere.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_leaves

from .samples import BACKWARD, SYNCING, calls

NAMES = list(calls())
# what is said where the first or second tensor is elsewhere; where the third is; and so on
PAIRS = {
    "box_iou": ("box_iou: boxes1 and boxes2",),
    "complete_box_iou": ("complete_box_iou: boxes1 and boxes2",),
    "box_iou_out": ("box_iou: boxes1 and boxes2", "box_iou: boxes1 and out"),
    "paired_box_iou": ("paired_box_iou: boxes1 and boxes2",),
    "match_boxes": ("match_boxes: gt and anchors",),
    "match_boxes of images": (
        "match_boxes: gt and anchors",
        "match_boxes: gt and gt_offsets",
        "match_boxes: anchors and anchor_offsets",
    ),
    "encode_boxes": ("encode_boxes: boxes and anchors",),
    "decode_boxes": ("decode_boxes: deltas and anchors",),
    "decode_dense": ("decode_dense: maps and anchors",),
    "nms": ("nms: boxes and scores",),
    "batched_nms": ("batched_nms: boxes and scores", "batched_nms: boxes and idxs"),
    "soft_nms": ("soft_nms: boxes and scores",),
    "multiclass_nms": ("multiclass_nms: boxes and scores",),
    "roi_align": ("roi_align: input and boxes",),
    "roi_align channels-last": ("roi_align: input and boxes",),
    "multiscale_roi_align": ("multiscale_roi_align: features and boxes",) * 2,
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


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
    """The inputs arrive late, on that stream alone: on any other the op would see zeros."""
    function, tensors = calls()[name]
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
@pytest.mark.parametrize("name", BACKWARD)
def test_gradients_on_a_stream_of_their_own(name: str) -> None:
    function, tensors = calls()[name]
    given = [t.cuda() for t in tensors]
    given[0].requires_grad_()
    out = function(*given)
    grad = torch.randn_like(out)
    (want,) = torch.autograd.grad(out, given[0], grad)
    arriving = torch.zeros_like(grad)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # backward runs on its forward's stream
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
    """The tensors' device is used whichever is current, and stays what it was."""
    function, tensors = calls()[name]
    with torch.cuda.device(0):
        want = function(*[t.to("cuda:0") for t in tensors])
        got = function(*[t.to("cuda:1") for t in tensors])
        assert torch.cuda.current_device() == 0
    assert all(t is None or t.device == torch.device("cuda:1") for t in tree_leaves(got))
    if torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1):
        same([t if t is None else t.cpu() for t in tree_leaves(got)],
             [t if t is None else t.cpu() for t in tree_leaves(want)])  # fmt: skip


def refusal(pairs: tuple[str, ...], odd: int, here: str, there: str) -> str:
    """What is said where the tensor `odd` is there and the others are here."""
    either = f"({here} and {there}|{there} and {here})"
    return f"^{pairs[max(odd - 1, 0)]} must be on one device, got {either}$"


def refused(name: str, here: str, there: str) -> None:
    """One tensor after the other on another device than the rest."""
    function, tensors = calls()[name]
    for odd in range(len(tensors)):
        mixture = [t.to(there if k == odd else here) for k, t in enumerate(tensors)]
        with pytest.raises(ValueError, match=refusal(PAIRS[name], odd, here, there)):
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
@pytest.mark.parametrize("name", [n for n in NAMES if n not in SYNCING])
def test_a_cuda_graph_holds_it(name: str) -> None:
    """Captured once, replayed on other inputs: nothing in it syncs, allocates or keeps a value."""
    function, tensors = calls()[name]
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
        fresh = [t.cuda() for t in calls(seed)[name][1]]
        for to, tensor in zip(static, fresh, strict=True):
            to.copy_(tensor)
        graph.replay()
        same(found, function(*fresh))


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("name", BACKWARD)
def test_a_cuda_graph_holds_its_gradient(name: str) -> None:
    function, tensors = calls()[name]
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
    """Called in a FakeTensorMode: of the same shapes, dtypes and strides on those devices."""
    return [
        torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device)
        for t, device in zip(tensors, devices, strict=True)
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1", "meta"])
@pytest.mark.parametrize("name", NAMES)
def test_fake_results_are_on_the_tensors_device(name: str, device: str) -> None:
    function, tensors = calls()[name]
    with FakeTensorMode(shape_env=ShapeEnv()):
        got = tree_leaves(function(*fake(tensors, [device] * len(tensors))))
    want = tree_leaves(function(*tensors))
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.device == torch.device(device) and ours.dtype == theirs.dtype
            if name not in SYNCING:  # their length is not known before
                assert ours.shape == theirs.shape and ours.stride() == theirs.stride()


@pytest.mark.parametrize("name", NAMES)
def test_meta_beside_real_is_refused(name: str) -> None:
    refused(name, "cpu", "meta")
    refused(name, "meta", "cpu")


def fakes_refused(
    function: Callable[..., Any], tensors: list[Tensor], pairs: tuple[str, ...]
) -> None:
    for here, there in (("cuda:0", "cpu"), ("cuda:0", "cuda:1")):
        for odd in range(len(tensors)):
            devices = [there if k == odd else here for k in range(len(tensors))]
            words = refusal(pairs, odd, here, there)
            with FakeTensorMode(shape_env=ShapeEnv()), pytest.raises(ValueError, match=words):
                function(*fake(tensors, devices))


@pytest.mark.parametrize("name", NAMES)
def test_fakes_on_two_devices_are_refused(name: str) -> None:
    fakes_refused(*calls()[name], PAIRS[name])


def backward_calls() -> dict[str, tuple[Callable[..., Any], list[Tensor], tuple[str, ...]]]:
    """Every backward operator, its tensors with the gradient last, and their pairs as above."""
    on, given = torch.ops.detcore, {name: tensors for name, (_, tensors) in calls().items()}
    weights, matrix = [1.0, 1, 1, 1], torch.ones(60, 60)
    boxes, settings = torch.ones(60, 4), [8.0, 8, 1, 1, 1, 1, 4, 1, -1, 16]
    (input, rois), pooled = given["roi_align"], torch.ones(60, 8, 3, 3)
    return {
        "encode_boxes": (lambda b, a, g: on.encode_boxes_backward(g, b, a, weights),
                         [*given["encode_boxes"], boxes],
                         ("encode_boxes_backward: boxes and anchors",
                          "box_codec: grad and the input")),
        "decode_boxes": (lambda d, a, g: on.decode_boxes_backward(g, d, a, weights, 4.0),
                         [*given["decode_boxes"], boxes],
                         ("decode_boxes_backward: deltas and anchors",
                          "box_codec: grad and the input")),
        "box_iou": (lambda a, b, g: on.box_iou_backward(g, a, b, "giou", 0.0),
                    [*given["box_iou"], matrix],
                    ("generalized_box_iou: boxes1 and boxes2",
                     "generalized_box_iou: grad and the input")),
        "paired_box_iou": (lambda a, b, g: on.paired_box_iou_backward(g, a, b, "giou", 0.0),
                           [*given["paired_box_iou"], matrix[0]],
                           ("paired_box_iou_backward: boxes1 and boxes2",
                            "paired_box_iou: grad and the input")),
        "decode_dense": (lambda m, a, g: on.decode_dense_backward(g, m, a, "delta", settings),
                         [*given["decode_dense"], torch.ones(2, 96, 4)],
                         ("decode_dense_backward: maps and anchors",
                          "decode_dense: grad and the input")),
        "roi_align": (lambda r, g: on.roi_align_backward(
                          g, r, 0.5, 3, 3, 2, False, list(input.shape), False),
                      [rois, pooled], ("roi_align_backward: grad and boxes",)),
        "multiscale_roi_align": (lambda r, g: on.multiscale_roi_align_backward(
                                     g, r, [0.5], 3, 3, 2, False, 8.0, 1, 2, [24, 24], False),
                                 [rois, pooled],
                                 ("multiscale_roi_align_backward: grad and boxes",)),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(backward_calls()))
def test_fake_gradients_on_two_devices_are_refused(name: str) -> None:
    function, tensors, pairs = backward_calls()[name]
    function(*tensors)
    fakes_refused(function, tensors, pairs)
