"""What a wheel must show where nothing but it, torch, numpy and pytest is installed.

`make wheel` copies this file away from the sources and runs it there, against each wheel; in the
sources it tries the module that was built in place. Every operator is called on both ways, by
pybind11's entry and by torch's dispatcher, and refuses wrong arguments in the same words on both:
C++ exceptions must pass through torch and through Python unharmed, however the module was linked.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops._native import _C

WEIGHTS = [10.0, 10.0, 5.0, 5.0]
DELTA = [8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 0.0, 1.0]  # decode_dense's settings


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def boxes(n: int, seed: int = 0) -> Tensor:
    low = numbers(n, 2, seed=seed) * 50
    return torch.cat((low, low + 1 + numbers(n, 2, seed=seed + 1) * 30), dim=1)


def regions(n: int) -> Tensor:
    """[n, 5]: an image's index, and a box."""
    return torch.cat((torch.arange(n)[:, None] % 2, boxes(n) / 8), dim=1)


CALLS: dict[str, Callable[[], list[Any]]] = {
    "encode_boxes": lambda: [boxes(5), boxes(5, 2), WEIGHTS],
    "decode_boxes": lambda: [numbers(5, 8), boxes(5), WEIGHTS, 4.0],
    "encode_boxes_backward": lambda: [numbers(5, 4), boxes(5), boxes(5, 2), WEIGHTS],
    "decode_boxes_backward": lambda: [numbers(5, 8), numbers(5, 8), boxes(5), WEIGHTS, 4.0],
    "box_iou": lambda: [boxes(7), boxes(9, 2), "xyxy", "giou", 1e-7],
    "box_iou_out": lambda: [boxes(7), boxes(9, 2), "xyxy", "iou", 0.0, torch.empty(7, 9)],
    "box_iou_backward": lambda: [numbers(7, 9), boxes(7), boxes(9, 2), "ciou", 1e-7],
    "decode_dense": lambda: [numbers(2, 18, 5, 6), boxes(3), "delta", DELTA],
    "decode_dense_backward": lambda: [
        numbers(2, 90, 4),
        numbers(2, 18, 5, 6),
        boxes(3),
        "delta",
        DELTA,
    ],
    "match_boxes": lambda: [boxes(4), boxes(50, 2), None, None],
    "multiclass_nms": lambda: [boxes(60).view(2, 30, 4), numbers(2, 30, 3), 0.1, 0.5, 20, 25],
    "multiscale_roi_align": lambda: [
        [numbers(2, 3, 16, 16), numbers(2, 3, 8, 8)],
        regions(6),
        [1.0, 0.5],
        2,
        2,
        2,
        True,
        224.0,
        4,
    ],
    "multiscale_roi_align_backward": lambda: [
        numbers(6, 3, 2, 2),
        regions(6),
        [1.0, 0.5],
        2,
        2,
        2,
        True,
        224.0,
        4,
        2,
        [16, 16, 8, 8],
        False,
    ],
    "nms": lambda: [boxes(200), numbers(200), 0.3],
    "batched_nms": lambda: [boxes(200), numbers(200), torch.arange(200) % 7, 0.3],
    "paired_box_iou": lambda: [boxes(8), boxes(8, 2), "diou", 1e-7],
    "paired_box_iou_backward": lambda: [numbers(8), boxes(8), boxes(8, 2), "diou", 1e-7],
    "roi_align": lambda: [numbers(2, 3, 16, 16), regions(6), 1.0, 2, 2, 2, False],
    "roi_align_backward": lambda: [
        numbers(6, 3, 2, 2),
        regions(6),
        1.0,
        2,
        2,
        2,
        False,
        [2, 3, 16, 16],
        False,
    ],
    "soft_nms": lambda: [boxes(50), numbers(50), 0.3, 0.5, 0.001, "linear"],
}

# which argument is replaced by what, and the error's whole text
FAULTS: dict[str, tuple[int, Any, str]] = {
    "encode_boxes": (2, [1.0, 1.0], "encode_boxes: weights must be 4 numbers, got 2"),
    "decode_boxes": (
        1,
        boxes(6),
        "decode_boxes: deltas must be [6, 4k], one row an anchor, got [5, 8]",
    ),
    "encode_boxes_backward": (0, numbers(5, 3), "box_codec: grad must be [5, 4], got [5, 3]"),
    "decode_boxes_backward": (0, numbers(5, 3), "box_codec: grad must be [5, 8], got [5, 3]"),
    "box_iou": (3, "iuo", "box_iou: kind must be one of iou, giou, diou, ciou, got 'iuo'"),
    "box_iou_out": (
        0,
        boxes(7).double(),
        "box_iou: boxes1 and boxes2 must have one dtype, got float64 and float32",
    ),
    "box_iou_backward": (0, numbers(7, 8), "complete_box_iou: grad must be [7, 9], got [7, 8]"),
    "decode_dense": (1, None, "decode_dense: anchors must be given for codec 'delta'"),
    "decode_dense_backward": (
        4,
        [8.0],
        "decode_dense_backward: settings must be 10 numbers, got 1",
    ),
    "match_boxes": (
        0,
        boxes(4).int(),
        "match_boxes: gt must be float32, float64, float16 or bfloat16, got int32",
    ),
    "multiclass_nms": (4, 0, "multiclass_nms: candidates_per_class must be at least 1, got 0"),
    "multiscale_roi_align": (
        2,
        [1.0],
        "multiscale_roi_align: scales must be one a feature, 2 of them, got 1",
    ),
    "multiscale_roi_align_backward": (
        10,
        [16],
        "multiscale_roi_align_backward: map_sizes must be pairs of sizes, got [16]",
    ),
    "nms": (0, numbers(200, 3), "nms: boxes must be [N, 4], got [200, 3]"),
    "batched_nms": (1, numbers(9), "batched_nms: scores must be [200], one a box, got [9]"),
    "paired_box_iou": (
        1,
        boxes(7),
        "paired_box_iou: boxes1 and boxes2 must have one shape, got [8, 4] and [7, 4]",
    ),
    "paired_box_iou_backward": (0, numbers(7), "paired_box_iou: grad must be [8], got [7]"),
    "roi_align": (0, numbers(3, 16, 16), "roi_align: input must be [N, C, H, W], got [3, 16, 16]"),
    "roi_align_backward": (
        7,
        [3, 16],
        "roi_align_backward: map_size must be [N, C, H, W], got [3, 16]",
    ),
    "soft_nms": (5, "cubic", "soft_nms: method must be one of linear, gaussian, got 'cubic'"),
}

ROUTES: dict[str, Callable[[str], Callable[..., Any]]] = {
    "entry": lambda op: getattr(_C, op),
    "operator": lambda op: getattr(torch.ops.detcore, op),
}
# torch 2.15's dispatcher makes a RuntimeError of every C++ exception that is not torch's own; the
# public functions raise a ValueError on both routes all the same
REFUSALS: dict[str, type[Exception]] = {
    "entry": ValueError,
    "operator": ValueError if torch.__version__ < (2, 15) else RuntimeError,
}
both_routes = pytest.mark.parametrize("route", ROUTES)
every_operator = pytest.mark.parametrize("op", CALLS)


def tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result or [])


def test_no_operator_is_left_out() -> None:
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    ours = {name.removeprefix("detcore::") for name in registered if name.startswith("detcore::")}
    assert ours == set(CALLS) == set(FAULTS)


@every_operator
def test_both_routes_give_the_same(op: str) -> None:
    arguments = CALLS[op]()
    entry, operator = (tensors(route(op)(*arguments)) for route in ROUTES.values())
    assert len(entry) == len(operator)
    assert entry or op == "box_iou_out"
    for a, b in zip(entry, operator, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@both_routes
@every_operator
def test_errors_come_in_their_own_words(op: str, route: str) -> None:
    place, wrong, words = FAULTS[op]
    arguments = CALLS[op]()
    arguments[place] = wrong
    for _ in range(3):  # what an exception leaves behind must not spoil the next
        with pytest.raises(REFUSALS[route]) as raised:
            ROUTES[route](op)(*arguments)
        assert type(raised.value) is REFUSALS[route]
        assert str(raised.value) == words
    ROUTES[route](op)(*CALLS[op]())


@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_public_function_s_refusal_is_a_value_error(requires_grad: bool) -> None:
    with pytest.raises(ValueError, match=r"fmt must be one of xyxy, .* got 'yxyx'"):
        ops.box_iou(boxes(7).requires_grad_(requires_grad), boxes(9), "yxyx")


@both_routes
def test_torch_s_own_errors_come_through(route: str) -> None:
    """Thrown in libtorch, carried over its C border, thrown again by the module.

    Its words come along since torch 2.13; before, they go to stderr, and the error names the call.
    """
    many = torch.zeros(1, 4).expand(1 << 24, 4)
    with pytest.raises(RuntimeError) as raised:
        ROUTES[route]("box_iou")(many, many, "xyxy", "iou", 0.0)
    words = "alloc" if torch.__version__ >= (2, 13) else "aoti_torch_empty_strided"
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("box_iou", (boxes(70), boxes(33, 2))),
        ("paired_box_iou", (boxes(70), boxes(70, 2), "ciou")),
        ("encode_boxes", (boxes(70), boxes(70, 2))),
        ("decode_boxes", (numbers(70, 4), boxes(70))),
        ("nms", (boxes(300), numbers(300), 0.4)),
        ("batched_nms", (boxes(300), numbers(300), torch.arange(300) % 5, 0.4)),
        ("match_boxes", (boxes(9), boxes(300, 2))),
        ("roi_align", (numbers(2, 3, 16, 16), regions(6), (2, 2))),
        (
            "multiscale_roi_align",
            ([numbers(2, 3, 16, 16), numbers(2, 3, 8, 8)], regions(6), (2, 2), [1.0, 0.5]),
        ),
        ("decode_dense", (numbers(2, 18, 5, 6), boxes(3), 8, "delta")),
        ("multiclass_nms", (boxes(60).view(2, 30, 4), numbers(2, 30, 3), 0.1, 0.5)),
        ("soft_nms", (boxes(50), numbers(50), 0.3)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_results_are_the_reference_s(name: str, arguments: tuple[Any, ...]) -> None:
    got, wanted = (tensors(getattr(m, name)(*arguments)) for m in (ops, reference))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, check_dtype=False)


def test_on_several_threads() -> None:
    """Work that torch's threads share, and a gradient."""
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            first = boxes(3000).requires_grad_()
            kept = ops.nms(boxes(20_000), numbers(20_000), 0.5)
            ops.box_iou(first, boxes(2000, 2)).sum().backward()
            results.append((kept, first.grad))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
