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


def session(call: Callable[..., Any], args: list[Tensor], dynamo: bool) -> Any:
    file = io.BytesIO()
    if dynamo:
        n = Dim("n", min=0, max=2**20)
        torch.onnx.export(
            Model(call), tuple(args), file, dynamo=True, verbose=False,
            custom_translation_table=detcore.onnx.translations(),
            dynamic_shapes=(tuple({0: n} for _ in args),),
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
    exported = session(call, make(30), dynamo)
    for n in (30, 7, 1, 64, 0):
        want = call(*make(n))
        want = list(want) if isinstance(want, tuple) else [want]
        torch.testing.assert_close(run(exported, make(n)), want, rtol=1e-5, atol=1e-4)


def test_half_and_double() -> None:
    for dtype in (torch.float16, torch.float64):
        a, b = boxes(9, 1).to(dtype), boxes(9, 2).to(dtype)
        for call in (ops.box_iou, ops.encode_boxes):
            (got,) = run(session(lambda a, b, c=call: c(a, b), [a, b], True), [a, b])
            torch.testing.assert_close(got, call(a, b), rtol=1e-3, atol=1e-3)


def test_nan_scores_are_no_candidates() -> None:
    call, make = CALLS["multiclass_nms"]
    b, s = make(12)
    exported = session(call, [b, s], True)
    s[::2] = torch.nan
    torch.testing.assert_close(run(exported, [b, s]), list(call(b, s)))


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
