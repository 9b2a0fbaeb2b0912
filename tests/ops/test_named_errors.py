"""Errors for arguments that are not plain tensors name the op and the argument."""

import inspect

import numpy as np
import pytest
import torch

from detcore import ops

BOXES = torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]])
GIVEN = {
    "box_iou": (BOXES, BOXES),
    "generalized_box_iou": (BOXES, BOXES),
    "distance_box_iou": (BOXES, BOXES),
    "complete_box_iou": (BOXES, BOXES),
    "paired_box_iou": (BOXES, BOXES),
    "match_boxes": (BOXES, BOXES),
    "generalized_box_iou_loss": (BOXES, BOXES),
    "distance_box_iou_loss": (BOXES, BOXES),
    "complete_box_iou_loss": (BOXES, BOXES),
    "sigmoid_focal_loss": (BOXES, (BOXES > 3).float()),
    "nms": (BOXES, BOXES[:, 0], 0.5),
    "batched_nms": (BOXES, BOXES[:, 0], torch.zeros(3, dtype=torch.int64), 0.5),
    "soft_nms": (BOXES, BOXES[:, 0]),
    "multiclass_nms": (BOXES[None], BOXES[None, :, :2]),
    "encode_boxes": (BOXES, BOXES),
    "decode_boxes": (BOXES, BOXES),
    "roi_align": (torch.rand(1, 2, 8, 8), torch.zeros(1, 5), 2),
    "roi_align_rotated": (torch.rand(1, 2, 8, 8), torch.zeros(1, 6), 2),
    "roi_pool": (torch.rand(1, 2, 8, 8), torch.zeros(1, 5), 2),
    "box_area": (BOXES,),
    "clip_boxes_to_image": (BOXES, (5, 5)),
    "remove_small_boxes": (BOXES, 1.0),
    "masks_to_boxes": (torch.ones(2, 5, 6),),
}
OTHERS = {
    "None": None,
    "list": [[0.0, 0, 1, 1]],
    "number": 3,
    "text": "boxes",
    "nested": torch.nested.nested_tensor([torch.rand(2, 4), torch.rand(3, 4)]),
}


def tensors_of(op):
    names = inspect.signature(getattr(ops, op)).parameters
    return [(op, k, n) for k, n in zip(range(len(GIVEN[op])), names, strict=False)
            if isinstance(GIVEN[op][k], torch.Tensor)]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(("op", "place", "name"), [row for op in GIVEN for row in tensors_of(op)])
def test_the_op_and_the_argument_are_named(op, place, name, other, capfd):
    arguments = list(GIVEN[op])
    getattr(ops, op)(*arguments)
    arguments[place] = OTHERS[other]
    with pytest.raises((TypeError, ValueError), match=rf"^{op}: {name}") as error:
        getattr(ops, op)(*arguments)
    assert "libtorch" not in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # no backtrace of C++


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize(
    ("op", "place", "name"),
    # torch clamps quantized tensors too, and compares them with zero
    [
        row
        for op in GIVEN
        if op not in ("clip_boxes_to_image", "masks_to_boxes")
        for row in tensors_of(op)
    ],
)
def test_a_quantized_tensor_is_refused_with_the_way_out(op, place, name):
    arguments = list(GIVEN[op])
    given = arguments[place]
    arguments[place] = torch.quantize_per_tensor(given.float(), 0.1, 0, torch.qint32)
    with pytest.raises(ValueError, match=rf"^{op}: {name} must not be quantized"):
        getattr(ops, op)(*arguments)


@pytest.mark.parametrize("op", ["box_iou", "paired_box_iou", "match_boxes"])
def test_an_array_behind_a_tensor_is_named(op):
    with pytest.raises(TypeError, match=rf"^{op}: .* must be a tensor, got ndarray"):
        getattr(ops, op)(BOXES, BOXES.numpy().astype(np.float32))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ops.clip_boxes_to_image(BOXES, 5), r"size must be \(height, width\), got 5"),
        (lambda: ops.encode_boxes(BOXES, BOXES, weights=None), "weights must be four numbers"),
        (lambda: ops.decode_boxes(BOXES, BOXES, weights=None), "weights must be four numbers"),
        (lambda: ops.roi_align(torch.rand(1, 1, 8, 8), torch.zeros(1, 5), 2**62), "at most"),
        (
            lambda: ops.roi_align(torch.rand(1, 2, 8, 8), torch.zeros(1, 5), 2**30),
            r"^roi_align: a tensor of \[1, 2, 1073741824, 1073741824\] is more than can be",
        ),
        (
            lambda: ops.roi_align(torch.rand(1, 2, 8, 8), torch.zeros(1, 5), 2**63),
            "^roi_align: out_height must fit into 64 bits, got 9223372036854775808",
        ),
        (
            lambda: ops.multiclass_nms(BOXES[None], BOXES[None, :, :2], max_per_image=2**62),
            "max_per_image must be at most 2147483647",
        ),
    ],
)
def test_other_arguments_that_make_no_sense(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ops.box_iou(torch.zeros(1 << 25, 4), torch.zeros(1 << 25, 4)),  # 4 PiB
        lambda: ops.roi_align(torch.rand(1, 2, 8, 8), torch.zeros(1, 5), 1 << 25),  # 8 PiB
    ],
)
def test_memory_that_is_not_there_is_told_of_once(call, capfd):
    with pytest.raises(
        RuntimeError, match=r"(?i)memory.*\(for a result of \[.*\] on cpu\)"
    ) as error:
        call()
    assert "API call failed" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # no backtrace of C++


@pytest.mark.parametrize(
    ("maps", "shapes", "words"),
    [
        ({"0": torch.rand(1, 2, 8, 8)}, [(0, 0)], "image_shapes must list"),
        ({"0": torch.rand(1, 2, 8, 8)}, [], "image_shapes must list"),
        ({"0": None}, [(8, 8)], "map 0 of x must be"),
        (None, [(8, 8)], "x must be a mapping"),
    ],
)
def test_pooling_names_what_is_wrong(maps, shapes, words):
    pool = ops.MultiScaleRoIAlign(["0"], 7, 2)
    with pytest.raises((TypeError, ValueError), match=rf"^MultiScaleRoIAlign: {words}"):
        pool(maps, [BOXES], shapes)


def test_an_output_that_is_no_tensor_is_named():
    for call in (
        lambda: ops.generalized_box_iou(BOXES, BOXES, 1e-7),  # an eps, as the other two take it
        lambda: ops.box_iou(BOXES, BOXES, "xyxy", 1e-7),
    ):
        with pytest.raises(TypeError, match=r"box_iou: out must be a tensor or None, got float"):
            call()
