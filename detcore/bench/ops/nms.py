from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torchvision
from torch import Tensor
from torchvision.ops.boxes import _batched_nms_vanilla

from detcore import ops

from .. import inputs, rivals
from ..case import Case, Must, call, equal

IOU = 0.5


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    for n, must in (
        (10, Must("times", 1, 2)),
        (100, Must("times", 3, 5)),
        (1_000, Must("times", 25, 50)),
        (10_000, Must("times", 300, 700)),
    ):
        yield of_boxes(f"nms {n:,} boxes", partial(inputs.scattered, n), must)
    yield of_boxes(
        "nms 20,000 smaller boxes",
        partial(inputs.scattered, 20_000, side=40),
        Must("times", 450, 1200),
    )
    for work, make, must in (
        ("in 100 clusters", partial(inputs.clusters, 10_000, 100), Must("times", 25, 60)),
        ("all overlapping", partial(inputs.overlapping, 10_000), Must("times", 1, 60)),
        ("all equal scores", partial(inputs.equally_scored, 10_000), Must("times", 25, 60)),
    ):
        yield of_boxes(f"nms 10,000 {work}", make, must)
    # torchvision takes half a minute: once, and not in the quick table
    yield of_boxes(
        "nms 100,000 uniform in 4,000 x 4,000",
        partial(inputs.scattered, 100_000, extent=4000),
        Must("ms", 15, 6),
        quick=False,
    )
    if inputs.DIGITS.exists():
        yield of_boxes("nms one picture's digits", inputs.digits_one)
    yield from _batched()


def of_boxes(work: str, make: Any, must: Must | None = None, *, quick: bool = True) -> Case:
    """nms of one input, with all rivals."""
    return Case(
        "nms",
        work,
        make,
        replace(call(ops.nms, IOU), waits=True),
        {
            "torchvision": call(torchvision.ops.nms, IOU),
            "powerboxes": rivals.powerboxes_nms(IOU),
            "lsnms": rivals.lsnms_nms(IOU),
            "OpenVINO": rivals.openvino_nms(IOU),
            "ONNX Runtime": rivals.onnxruntime_nms(IOU),
        },
        equal,
        must=must,
        quick=quick,
    )


def _batched() -> Iterator[Case]:
    def many() -> tuple[Tensor, ...]:
        return (*inputs.scattered(10_000), inputs.classes(10_000, 80))

    def few() -> tuple[Tensor, ...]:
        return (*inputs.scattered(10), inputs.classes(10, 3))

    works: list[tuple[str, Any, int, Must | None]] = [
        ("batched_nms 10,000 boxes, 80 classes", many, 80, Must("times", 15, 40)),
        ("batched_nms 10 boxes", few, 3, Must("times", 1, 2)),
    ]
    if inputs.DIGITS.exists():
        works.append(("batched_nms 32 pictures' digits", inputs.digits_batch, 0, None))
    for work, make, classes, must in works:
        others = {"torchvision": call(torchvision.ops.batched_nms, IOU)}
        others["lsnms"] = rivals.lsnms_nms(IOU)
        if classes:  # these take a score for each class of each box: a batch's would be mostly air
            others["OpenVINO"] = rivals.openvino_nms(IOU, classes)
            others["ONNX Runtime"] = rivals.onnxruntime_nms(IOU, classes)
        yield Case(
            "batched_nms",
            work,
            make,
            replace(call(ops.batched_nms, IOU), waits=True),
            others,
            # torchvision's last sort is not stable
            rivals.same_kept,
            # up to 1,000 boxes torchvision adds offsets to coordinates, which rounds IoUs
            truth=call(_batched_nms_vanilla, IOU),
            must=must,
        )
