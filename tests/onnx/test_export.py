"""Exported by both of torch's exporters and run in ONNX Runtime, the ops give their own results."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import detcore.onnx
from detcore import ops

from ..ops.conftest import random_boxes

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def boxes(n: int, seed: int = 0) -> Tensor:
    return random_boxes(n, seed=seed).float()


def rois(n: int) -> Tensor:
    return torch.cat((torch.arange(n)[:, None] % 2, boxes(n)), 1)


def scores(n: int) -> Tensor:
    """With ties."""
    values = torch.rand(n, generator=torch.Generator().manual_seed(n))
    return (values * 10).floor() / 10


MAPS = [torch.arange(2.0 * 3 * side * side).view(2, 3, side, side).sin() for side in (20, 10)]
# what is exported, and its arguments for n boxes, whose number is dynamic
CALLS: dict[str, tuple[Callable[..., Any], Callable[[int], list[Tensor]]]] = {
    "box_iou": (lambda a, b: ops.box_iou(a, b), lambda n: [boxes(n, 1), boxes(n, 2)]),
    "box_iou cxcywh": (
        lambda a, b: ops.box_iou(a, b, "cxcywh"), lambda n: [boxes(n, 1), boxes(n, 2)],
    ),
    "generalized_box_iou": (
        lambda a, b: ops.generalized_box_iou(a, b), lambda n: [boxes(n, 1), boxes(n, 2)],
    ),
    "complete_box_iou": (
        lambda a, b: ops.complete_box_iou(a, b), lambda n: [boxes(n, 1), boxes(n, 2)],
    ),
    "distance_box_iou_loss": (
        lambda a, b: ops.distance_box_iou_loss(a, b), lambda n: [boxes(n, 1), boxes(n, 2)],
    ),
    "encode_boxes": (
        lambda a, b: ops.encode_boxes(a, b, (10.0, 10.0, 5.0, 5.0)),
        lambda n: [boxes(n, 1), boxes(n, 2)],
    ),
    "decode_boxes": (
        lambda a, b: ops.decode_boxes(a, b, (10.0, 10.0, 5.0, 5.0)),
        lambda n: [torch.linspace(-30, 30, 8 * n).view(n, 8), boxes(n, 2)],
    ),
    "nms": (lambda b, s: ops.nms(b, s, 0.3), lambda n: [boxes(n), scores(n)]),
    "batched_nms": (
        lambda b, s, i: ops.batched_nms(b, s, i, 0.3),
        lambda n: [boxes(n), scores(n), torch.arange(n) % 3 * 10**12],
    ),
    "roi_align": (
        lambda r: ops.roi_align(MAPS[0], r, (3, 2), 0.15, 2, True), lambda n: [rois(n)],
    ),
    "multiscale_roi_align": (
        lambda r: ops.multiscale_roi_align(MAPS, r, 3, [0.25, 0.125], 2, 40, 3),
        lambda n: [rois(n)],
    ),
    "multiclass_nms": (
        lambda b, s: ops.multiclass_nms(b[None], s[None], 0.3, 0.4, 5, 9),
        lambda n: [boxes(n), scores(3 * n).view(n, 3)],
    ),
    "multiclass_nms per class": (
        lambda b, s: ops.multiclass_nms(b[None], s[None], 0.3, 0.4, 5, 9),
        lambda n: [boxes(3 * n).view(n, 3, 4), scores(3 * n).view(n, 3)],
    ),
}  # fmt: skip


class Model(nn.Module):
    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Tensor) -> Any:
        return self.call(*args)


def session(
    call: Callable[..., Any], args: list[Tensor], dynamo: bool, dynamic: bool = False
) -> Any:
    file = io.BytesIO()
    if dynamo:
        n = Dim("n", min=0, max=2**20)
        torch.onnx.export(
            Model(call), tuple(args), file, dynamo=True, verbose=False,
            custom_translation_table=detcore.onnx.translations(),
            dynamic_shapes=(tuple({0: n} for _ in args),) if dynamic else None,
        )  # fmt: skip
    else:
        names = [f"input{k}" for k in range(len(args))]
        axes = {name: {0: "n"} for name in names}
        torch.onnx.export(
            Model(call), tuple(args), file, dynamo=False, opset_version=18,
            input_names=names, dynamic_axes=axes,
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file.getvalue(), options)


def run(session: Any, args: list[Tensor]) -> list[Tensor]:
    named = {i.name: t.numpy() for i, t in zip(session.get_inputs(), args, strict=True)}
    return [torch.from_numpy(result) for result in session.run(None, named)]


@pytest.mark.parametrize("dynamo", [True, False], ids=["exporter", "older"])
@pytest.mark.parametrize("name", CALLS)
def test_equals_the_op(name: str, dynamo: bool) -> None:
    """Of the number of boxes that was exported, and of others, none among them."""
    call, make = CALLS[name]
    graph = session(call, make(30), dynamo, dynamic=True)
    for n in (30, 7, 1, 64, 0):
        want = call(*make(n))
        want = list(want) if isinstance(want, tuple) else [want]
        torch.testing.assert_close(run(graph, make(n)), want, rtol=1e-5, atol=1e-4)


def exported(call: Callable[..., Any], *args: Tensor) -> list[Tensor]:
    return run(session(call, list(args), True), list(args))


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 1.5])
def test_nms_of_an_iou_at_the_threshold(threshold: float) -> None:
    """The quotient is compared with the threshold as a double, not with its nearest float32."""
    b = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10 * threshold]])
    s = torch.tensor([0.9, 0.8])
    (got,) = exported(lambda b, s: ops.nms(b, s, threshold), b, s)
    assert got.tolist() == ops.nms(b, s, threshold).tolist()


def test_nms_of_unusual_scores() -> None:
    """Infinite, the least, NaN, and such as are equal in float32; classes that are floats."""
    b, ids = boxes(30), torch.arange(30) % 3 / 3
    s = scores(30)
    s[::5], s[1::5], s[2::5] = -torch.inf, torch.nan, torch.finfo().min
    close = 1 + torch.arange(30, dtype=torch.float64) * 1e-12
    for values in (s, close, s.half()):
        boxes_too = b.to(values.dtype)
        (got,) = exported(lambda b, s: ops.nms(b, s, 0.1), boxes_too, values)
        assert got.tolist() == ops.nms(boxes_too, values, 0.1).tolist()
    for dynamo in (True, False):
        suppress = session(lambda b, s, i: ops.batched_nms(b, s, i, 0.1), [b, s, ids], dynamo)
        assert run(suppress, [b, s, ids])[0].tolist() == ops.batched_nms(b, s, ids, 0.1).tolist()


def test_out_is_no_part_of_a_graph() -> None:
    a, b = boxes(4, 1), boxes(5, 2)
    for dynamo in (True, False):
        overlap = session(lambda a, b: ops.box_iou(a, b, out=torch.zeros(4, 5)), [a, b], dynamo)
        torch.testing.assert_close(run(overlap, [a, b])[0], ops.box_iou(a, b))


def test_batches_and_lists() -> None:
    b, s = boxes(60).view(2, 30, 4), scores(180).view(2, 30, 3)
    found = exported(lambda b, s: ops.multiclass_nms(b, s, 0.3, 0.4, 20, 15), b, s)
    torch.testing.assert_close(found, list(ops.multiclass_nms(b, s, 0.3, 0.4, 20, 15)))
    for ratio, aligned in ((-1, False), (0, True)):

        def pool(r: Tensor, ratio: int = ratio, aligned: bool = aligned) -> Tensor:
            return ops.roi_align(MAPS[0], [r, r], 3, 0.15, ratio, aligned)

        torch.testing.assert_close(exported(pool, b[0])[0], pool(b[0]), rtol=1e-5, atol=1e-5)


def test_half_and_double() -> None:
    for dtype in (torch.float16, torch.float64):
        a, b = boxes(9, 1).to(dtype), boxes(9, 2).to(dtype)
        for call in (ops.box_iou, ops.complete_box_iou, ops.encode_boxes):
            (got,) = exported(lambda a, b, c=call: c(a, b), a, b)
            torch.testing.assert_close(got, call(a, b), rtol=1e-3, atol=1e-3)


def test_nan_scores_are_no_candidates() -> None:
    call, make = CALLS["multiclass_nms"]
    b, s = make(12)
    s[::2] = torch.nan
    torch.testing.assert_close(exported(call, b, s), list(call(b, s)))


class Head(nn.Module):
    """Several ops in one model, as the second stage of a detector has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3 * 9, 4)

    def forward(self, fine: Tensor, coarse: Tensor, regions: Tensor) -> Any:
        pooled = ops.multiscale_roi_align([fine, coarse], regions, 3, [0.25, 0.125], 2)
        refined = ops.decode_boxes(self.linear(pooled.flatten(1)), regions[:, 1:])
        kept = ops.nms(refined, pooled.mean((1, 2, 3)), 0.5)
        return refined[kept]


@pytest.mark.parametrize("dynamo", [True, False], ids=["exporter", "older"])
def test_model(dynamo: bool) -> None:
    args = [*MAPS, rois(20)]
    file = io.BytesIO()
    table = {"custom_translation_table": detcore.onnx.translations()} if dynamo else {}
    with torch.no_grad():
        want = Head()(*args)
        torch.onnx.export(Head(), tuple(args), file, dynamo=dynamo, opset_version=18, **table)  # type: ignore[arg-type]
    (got,) = run(onnxruntime.InferenceSession(file.getvalue()), args)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
