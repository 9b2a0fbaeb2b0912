"""The one table of ops: what every test, document and benchmark of all ops goes through.

`OPERATORS` has an entry for each registered operator ``torch.ops.detcore.<name>``, `CALLS` one for
each way that the public functions use them. A new op is an entry in both, and so gets all tests
that concern all ops: against its reference, in every dtype, compiled and exported, on devices and
streams, in any order of threads. Nothing here is imported by ``import detcore.ops``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .samples import (
    boxes,
    cloud,
    grid_map,
    in_space,
    normal,
    places,
    random_boxes,
    rois,
    rotated,
    scores,
    scores_for,
    turned_rois,
)

LAST = torch.channels_last
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


# --- operators ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Operator:
    """A registered operator, with both ways to call it: `_C.<name>` and ``torch.ops.detcore``.

    stem: the name of its files in every layer.
    arguments: makes all of its arguments, in the schema's order.
    fault: an argument's index, a value that is refused there, and the error's whole text.
    elsewhere: of a backward operator, for each tensor argument, which two tensors the error names
        where that one is on another device than the rest. (Of others, see `Call`.)
    """

    stem: str
    arguments: Callable[[], list[Any]]
    fault: tuple[int, Any, str]
    elsewhere: tuple[str, ...] = ()


_WEIGHTS = [10.0, 10.0, 5.0, 5.0]
_DENSE = [8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, -1.0, 1.0]  # decode_dense's settings
_CELLS = torch.tensor([[-8.0, -8, 8, 8], [-4, -9, 4, 9], [-6, -6, 6, 6]])
_LEVELS = [[1.0, 0.5], 2, 2, 2, True, 224.0, 4]  # multiscale_roi_align's, from scales on


def _forward_and(other: str, op: str, family: str = "") -> tuple[str, ...]:
    """Of a backward operator whose arguments are the gradient and the forward's two."""
    names = f"{op}: {other}"
    return (f"{family or op.removesuffix('_backward')}: grad and the input", names, names)


OPERATORS: dict[str, Operator] = {
    "box_iou": Operator(
        "box_iou", lambda: [boxes(37), boxes(41, 1), "xyxy", "giou", 1e-7],
        (3, "iuo", "box_iou: kind must be one of iou, giou, diou, ciou, got 'iuo'"),
    ),
    "box_iou_out": Operator(
        "box_iou", lambda: [boxes(37), boxes(41, 1), "xyxy", "iou", 0.0, torch.zeros(37, 41)],
        (0, random_boxes(37),
         "box_iou: boxes1 and boxes2 must have one dtype, got float64 and float32"),
    ),
    "box_iou_backward": Operator(
        "box_iou", lambda: [normal(37, 41), boxes(37), boxes(41, 1), "ciou", 1e-7],
        (0, torch.ones(7, 8), "complete_box_iou: grad must be [37, 41], got [7, 8]"),
        _forward_and("boxes1 and boxes2", "complete_box_iou"),
    ),
    "box_iou_rotated": Operator(
        "box_iou_rotated", lambda: [rotated(37), rotated(41, 1)],
        (1, torch.ones(7, 4), "box_iou: boxes2 must be [..., 5], got [7, 4]"),
    ),
    "box_iou_rotated_out": Operator(
        "box_iou_rotated", lambda: [rotated(37), rotated(41, 1), torch.zeros(37, 41)],
        (2, torch.zeros(37, 40), "box_iou: out must be a contiguous [37, 41], got [37, 40]"),
    ),
    "box_iou_rotated_backward": Operator(
        "box_iou_rotated", lambda: [normal(37, 41), rotated(37), rotated(41, 1)],
        (0, torch.ones(7, 8), "box_iou: grad must be [37, 41], got [7, 8]"),
        _forward_and("boxes1 and boxes2", "box_iou"),
    ),
    "box3d_iou": Operator(
        "box3d_iou", lambda: [in_space(37), in_space(41, 1), False],
        (1, torch.ones(7, 4), "box3d_iou: boxes2 must be [..., 7], got [7, 4]"),
    ),
    "box3d_iou_out": Operator(
        "box3d_iou", lambda: [in_space(37), in_space(41, 1), False, torch.zeros(37, 41)],
        (3, torch.zeros(37, 40), "box3d_iou: out must be a contiguous [37, 41], got [37, 40]"),
    ),
    "box3d_iou_backward": Operator(
        "box3d_iou", lambda: [normal(37, 41), in_space(37), in_space(41, 1), True],
        (0, torch.ones(7, 8), "bev_iou: grad must be [37, 41], got [7, 8]"),
        _forward_and("boxes1 and boxes2", "bev_iou"),
    ),
    "paired_box_iou": Operator(
        "paired_box_iou", lambda: [boxes(500), boxes(500, 1), "xyxy", "diou", 1e-7],
        (1, torch.ones(7, 4), "paired_box_iou: boxes1 and boxes2 must have one shape, "
         "got [500, 4] and [7, 4]"),
    ),
    "paired_box_iou_backward": Operator(
        "paired_box_iou", lambda: [normal(500), boxes(500), boxes(500, 1), "xyxy", "diou", 1e-7],
        (0, torch.ones(7), "paired_box_iou: grad must be [500], got [7]"),
        _forward_and("boxes1 and boxes2", "paired_box_iou_backward"),
    ),
    "match_boxes": Operator(
        "match_boxes", lambda: [boxes(20), boxes(700, 1), None, None],
        (0, torch.ones(4, 4, dtype=torch.int32),
         "match_boxes: gt must be float32, float64, float16 or bfloat16, got int32"),
    ),
    "encode_boxes": Operator(
        "box_codec", lambda: [boxes(300), boxes(300, 1), _WEIGHTS],
        (2, [1.0, 1.0], "encode_boxes: weights must be 4 numbers, got 2"),
    ),
    "decode_boxes": Operator(
        "box_codec", lambda: [normal(300, 8), boxes(300), _WEIGHTS, 4.0],
        (1, torch.ones(6, 4), "decode_boxes: deltas must be [6, 4k], one row per anchor, "
         "got [300, 8]"),
    ),
    "encode_boxes_backward": Operator(
        "box_codec", lambda: [normal(300, 4), boxes(300), boxes(300, 1), _WEIGHTS],
        (0, torch.ones(5, 3), "box_codec: grad must be [300, 4], got [5, 3]"),
        _forward_and("boxes and anchors", "encode_boxes_backward", "box_codec"),
    ),
    "decode_boxes_backward": Operator(
        "box_codec", lambda: [normal(300, 8), normal(300, 8), boxes(300), _WEIGHTS, 4.0],
        (0, torch.ones(5, 3), "box_codec: grad must be [300, 8], got [5, 3]"),
        _forward_and("deltas and anchors", "decode_boxes_backward", "box_codec"),
    ),
    "decode_dense": Operator(
        "decode_dense", lambda: [normal(2, 18, 5, 40), _CELLS, "delta", _DENSE],
        (1, None, "decode_dense: anchors must be given for codec 'delta'"),
    ),
    "decode_dense_backward": Operator(
        "decode_dense",
        lambda: [normal(2, 600, 4), normal(2, 18, 5, 40), _CELLS, "delta", _DENSE],
        (4, [8.0], "decode_dense_backward: settings must be 10 numbers, got 1"),
        _forward_and("maps and anchors", "decode_dense_backward"),
    ),
    "nms": Operator(
        "nms", lambda: [boxes(300), scores(300), 0.3],
        (0, torch.ones(200, 3), "nms: boxes must be [N, 4], got [200, 3]"),
    ),
    "batched_nms": Operator(
        "nms", lambda: [boxes(300), scores(300), torch.arange(300) % 7, 0.3],
        (1, torch.ones(9), "batched_nms: scores must be [300], one per box, got [9]"),
    ),
    "nms_rotated": Operator(
        "nms_rotated", lambda: [rotated(300), scores(300), 0.3],
        (0, torch.ones(200, 4), "nms_rotated: boxes must be [N, 5], got [200, 4]"),
    ),
    "batched_nms_rotated": Operator(
        "nms_rotated", lambda: [rotated(300), scores(300), torch.arange(300) % 7, 0.3],
        (1, torch.ones(9), "batched_nms_rotated: scores must be [300], one per box, got [9]"),
    ),
    "nms_3d": Operator(
        "nms_3d", lambda: [in_space(300), scores(300), 0.3],
        (0, torch.ones(200, 5), "nms_3d: boxes must be [N, 7], got [200, 5]"),
    ),
    "batched_nms_3d": Operator(
        "nms_3d", lambda: [in_space(300), scores(300), torch.arange(300) % 7, 0.3],
        (1, torch.ones(9), "batched_nms_3d: scores must be [300], one per box, got [9]"),
    ),
    "nms_bev": Operator(
        "nms_3d", lambda: [in_space(300), scores(300), 0.3],
        (2, -1.0, "nms_bev: iou_threshold must be at least 0, got -1"),
    ),
    "batched_nms_bev": Operator(
        "nms_3d", lambda: [in_space(300), scores(300), torch.arange(300) % 7, 0.3],
        (2, torch.arange(9), "batched_nms_bev: idxs must be [300], one per box, got [9]"),
    ),
    "points_in_boxes": Operator(
        "points_in_boxes", lambda: [cloud(700), in_space(37)],
        (0, torch.ones(7, 4), "points_in_boxes: points must be [..., 3], got [7, 4]"),
    ),
    "soft_nms": Operator(
        "soft_nms", lambda: [boxes(300), scores(300), 0.3, 0.5, 0.001, "gaussian"],
        (5, "cubic", "soft_nms: method must be one of linear, gaussian, got 'cubic'"),
    ),
    "multiclass_nms": Operator(
        "multiclass_nms",
        lambda: [boxes(400).view(2, 200, 4), scores(1200).view(2, 200, 3), 0.1, 0.5, 50, 40],
        (4, 0, "multiclass_nms: candidates_per_class must be at least 1, got 0"),
    ),
    "weighted_boxes_fusion": Operator(
        "weighted_boxes_fusion",
        lambda: [random_boxes(300), scores_for(300), torch.ones(300).double(),
                 torch.arange(300) // 100, torch.arange(300) % 3, torch.arange(300),
                 [1.0, 1.0, 1.0], 0.5, 0.0, "avg"],
        (6, [1.0, -1.0], "weighted_boxes_fusion: weights must be positive and finite, got -1"),
    ),
    "roi_align": Operator(
        "roi_align", lambda: [grid_map(24), rois(9), 1.0, 7, 7, 2, False],
        (0, torch.ones(3, 16, 16), "roi_align: input must be [N, C, H, W], got [3, 16, 16]"),
    ),
    "roi_align_backward": Operator(
        "roi_align",
        lambda: [normal(9, 3, 7, 7), rois(9), 0.25, 7, 7, 2, True, [2, 3, 33, 31], False],
        (7, [3, 16], "roi_align_backward: map_size must be [N, C, H, W], got [3, 16]"),
        ("roi_align_backward: grad and boxes",) * 2,
    ),
    "roi_align_rotated": Operator(
        "roi_align_rotated", lambda: [grid_map(24), turned_rois(9), 1.0, 7, 7, 2, True, False],
        (1, torch.ones(7, 5), "roi_align_rotated: boxes must be [N, 6], got [7, 5]"),
    ),
    "roi_align_rotated_backward": Operator(
        "roi_align_rotated",
        lambda: [normal(9, 3, 7, 7), turned_rois(9), 0.25, 7, 7, 2, False, True, [2, 3, 33, 31],
                 False],
        (8, [3, 16], "roi_align_rotated_backward: map_size must be [N, C, H, W], got [3, 16]"),
        ("roi_align_rotated_backward: grad and boxes",) * 2,
    ),
    "multiscale_roi_align": Operator(
        "multiscale_roi_align", lambda: [[grid_map(24), grid_map(12)], rois(9), *_LEVELS],
        (2, [1.0], "multiscale_roi_align: scales must be one per feature, 2 of them, got 1"),
    ),
    "multiscale_roi_align_backward": Operator(
        "multiscale_roi_align",
        lambda: [normal(9, 3, 2, 2), rois(9), *_LEVELS, 2, [16, 16, 8, 8], False],
        (10, [16], "multiscale_roi_align_backward: map_sizes must be pairs of sizes, got [16]"),
        ("multiscale_roi_align_backward: grad and boxes",) * 2,
    ),
    "roi_pool": Operator(
        "roi_pool", lambda: [grid_map(24), rois(9), 1.0, 7, 7],
        (1, torch.ones(7, 4), "roi_pool: boxes must be [N, 5], got [7, 4]"),
    ),
    "roi_pool_backward": Operator(
        "roi_pool",
        lambda: [normal(9, 8, 7, 7), rois(9), places(9), 1.0, [2, 8, 24, 24], False],
        (2, torch.ones(9, 8, 7, 7), "roi_pool_backward: argmax must be int32, got float32"),
        (*("roi_pool_backward: grad and boxes",) * 2, "roi_pool_backward: grad and argmax"),
    ),
}  # fmt: skip

STEMS: tuple[str, ...] = tuple(dict.fromkeys(operator.stem for operator in OPERATORS.values()))

# the stems that have no kernels of their own, and whose they use
KERNELS_OF = {
    "box3d_iou": "box_iou_rotated",
    "multiscale_roi_align": "roi_align",
    "nms_3d": "nms_rotated",
}


# --- the public functions -------------------------------------------------------------------------
@dataclass(frozen=True)
class Call:
    """One way that a public function is called.

    operator: of `OPERATORS`, which it ends in.
    run: takes `detcore.ops`, and tensors alone.
    samples: makes these tensors on the CPU, float32 where they are floats, of about n things.
    elsewhere: for each tensor, which two the error names where it is on another device.
    reference: as `run`, of `detcore.reference`; None: `run` itself is.
    gradients: which of the tensors have gradients.
    syncs: reads a count back from the device, to size its result.
    dtypes: in which results are the reference's up to rounding.
    """

    operator: str
    run: Callable[..., Any]
    samples: Callable[[int, int], list[Tensor]]
    elsewhere: tuple[str, ...]
    reference: Callable[..., Any] | None = None
    gradients: tuple[int, ...] = ()
    syncs: bool = False
    dtypes: tuple[torch.dtype, ...] = FLOATS


def _names(op: str, first: str, *others: str) -> tuple[str, ...]:
    """`Call.elsewhere` of tensors that are each compared with the first."""
    pairs = tuple(f"{op}: {first} and {other}" for other in others)
    return (pairs[0], *pairs)


def _two_sets(seed: int, n: int) -> list[Tensor]:
    return [boxes(n, seed + 1), boxes(n, seed + 2)]


def _two_rotated_sets(seed: int, n: int) -> list[Tensor]:
    return [rotated(n, seed + 1), rotated(n, seed + 2)]


def _two_sets_in_space(seed: int, n: int) -> list[Tensor]:
    return [in_space(n, seed + 1), in_space(n, seed + 2)]


def _rows(seed: int, n: int) -> list[Tensor]:
    return [boxes(n, seed + 1), scores(n, seed)]


def _rows_in_space(seed: int, n: int) -> list[Tensor]:
    return [in_space(n, seed + 1), scores(n, seed)]


def _pooled(seed: int, n: int) -> list[Tensor]:
    return [grid_map(24, seed), rois(n, seed + 1)]


def _pooled_turned(seed: int, n: int) -> list[Tensor]:
    return [grid_map(24, seed), turned_rois(n, seed + 1)]


CALLS: dict[str, Call] = {
    "box_iou": Call(
        "box_iou", lambda on, a, b: on.box_iou(a, b), _two_sets,
        _names("box_iou", "boxes1", "boxes2"), gradients=(0, 1),
    ),
    "box_iou xywh": Call(
        "box_iou", lambda on, a, b: on.box_iou(a, b, "xywh"), _two_sets,
        _names("box_iou", "boxes1", "boxes2"), gradients=(0, 1),
    ),
    "generalized_box_iou": Call(
        "box_iou", lambda on, a, b: on.generalized_box_iou(a, b), _two_sets,
        _names("generalized_box_iou", "boxes1", "boxes2"), gradients=(0, 1),
        reference=lambda on, a, b: on.box_iou(a, b, kind="giou"),
    ),
    "distance_box_iou": Call(
        "box_iou", lambda on, a, b: on.distance_box_iou(a, b), _two_sets,
        _names("distance_box_iou", "boxes1", "boxes2"), gradients=(0, 1),
        reference=lambda on, a, b: on.box_iou(a, b, kind="diou", eps=1e-7),
    ),
    "complete_box_iou": Call(
        "box_iou", lambda on, a, b: on.complete_box_iou(a, b), _two_sets,
        _names("complete_box_iou", "boxes1", "boxes2"), gradients=(0, 1),
        reference=lambda on, a, b: on.box_iou(a, b, kind="ciou", eps=1e-7),
    ),
    "box_iou_out": Call(
        "box_iou_out", lambda on, a, b, out: on.box_iou(a, b, out=out),
        lambda seed, n: [*_two_sets(seed, n), torch.zeros(n, n)],
        _names("box_iou", "boxes1", "boxes2", "out"),
        reference=lambda on, a, b, out: on.box_iou(a, b), dtypes=(torch.float32, torch.float64),
    ),
    "box_iou cxcywhr": Call(
        "box_iou_rotated", lambda on, a, b: on.box_iou(a, b, "cxcywhr"), _two_rotated_sets,
        _names("box_iou", "boxes1", "boxes2"), gradients=(0, 1),
    ),
    "box_iou cxcywhr out": Call(
        "box_iou_rotated_out", lambda on, a, b, out: on.box_iou(a, b, "cxcywhr", out=out),
        lambda seed, n: [*_two_rotated_sets(seed, n), torch.zeros(n, n)],
        _names("box_iou", "boxes1", "boxes2", "out"),
        reference=lambda on, a, b, out: on.box_iou(a, b, "cxcywhr"),
        dtypes=(torch.float32, torch.float64),
    ),
    "box3d_iou": Call(
        "box3d_iou", lambda on, a, b: on.box3d_iou(a, b), _two_sets_in_space,
        _names("box3d_iou", "boxes1", "boxes2"), gradients=(0, 1),
    ),
    "bev_iou": Call(
        "box3d_iou", lambda on, a, b: on.bev_iou(a, b), _two_sets_in_space,
        _names("bev_iou", "boxes1", "boxes2"), gradients=(0, 1),
    ),
    "box3d_iou_out": Call(
        "box3d_iou_out", lambda on, a, b, out: on.box3d_iou(a, b, out=out),
        lambda seed, n: [*_two_sets_in_space(seed, n), torch.zeros(n, n)],
        _names("box3d_iou", "boxes1", "boxes2", "out"),
        reference=lambda on, a, b, out: on.box3d_iou(a, b), dtypes=(torch.float32, torch.float64),
    ),
    "paired_box_iou": Call(
        "paired_box_iou", lambda on, a, b: on.paired_box_iou(a, b, "giou"), _two_sets,
        _names("paired_box_iou", "boxes1", "boxes2"), gradients=(0, 1),
    ),
    "paired_box_iou cxcywhr": Call(
        "paired_box_iou", lambda on, a, b: on.paired_box_iou(a, b, "giou", fmt="cxcywhr"),
        _two_rotated_sets, _names("paired_box_iou", "boxes1", "boxes2"), gradients=(0, 1),
    ),
    "match_boxes": Call(
        "match_boxes", lambda on, gt, a: tuple(on.match_boxes(gt, a)),
        lambda seed, n: [boxes(n // 8, seed + 1), boxes(n, seed + 2)],
        _names("match_boxes", "gt", "anchors"),
    ),
    "match_boxes of images": Call(
        "match_boxes", lambda on, *tensors: tuple(on.match_boxes(*tensors)),
        lambda seed, n: [boxes(n // 8, seed + 1), boxes(n, seed + 2),
                         torch.tensor([0, n // 20, n // 8]), torch.tensor([0, n // 2, n])],
        ("match_boxes: gt and anchors", "match_boxes: gt and anchors",
         "match_boxes: gt and gt_offsets", "match_boxes: anchors and anchor_offsets"),
        reference=lambda on, gt, a, at, a_at: tuple(torch.cat(parts) for parts in zip(
            on.match_boxes(gt[:at[1]], a[:a_at[1]]), on.match_boxes(gt[at[1]:], a[a_at[1]:]),
            strict=True)),
    ),
    "match_boxes rotated": Call(
        "match_boxes", lambda on, gt, a: tuple(on.match_boxes(gt, a)),
        lambda seed, n: [rotated(n // 8, seed + 1), rotated(n, seed + 2)],
        _names("match_boxes", "gt", "anchors"),
    ),
    "encode_boxes": Call(
        "encode_boxes", lambda on, b, a: on.encode_boxes(b, a, _WEIGHTS), _two_sets,
        _names("encode_boxes", "boxes", "anchors"), gradients=(0, 1),
    ),
    "decode_boxes": Call(
        "decode_boxes", lambda on, d, a: on.decode_boxes(d, a, _WEIGHTS),
        lambda seed, n: [normal(n, 4, seed=seed), boxes(n, seed + 1)],
        _names("decode_boxes", "deltas", "anchors"), gradients=(0, 1),
    ),
    "decode_dense": Call(
        "decode_dense", lambda on, m, a: on.decode_dense(m, a, (8, 8), "delta"),
        lambda seed, n: [normal(2, 12, 6, max(n // 8, 1), seed=seed), _CELLS[:2].clone()],
        _names("decode_dense", "maps", "anchors"), gradients=(0,),
    ),
    "decode_dense dfl": Call(
        "decode_dense", lambda on, m: on.decode_dense(m, None, (8, 8), "dfl", bins=2),
        lambda seed, n: [normal(1, 10, 6, max(n // 8, 1), seed=seed)], (), gradients=(0,),
    ),
    "nms": Call(
        "nms", lambda on, b, s: on.nms(b, s, 0.4), _rows,
        _names("nms", "boxes", "scores"), syncs=True,
    ),
    "batched_nms": Call(
        "batched_nms", lambda on, b, s, i: on.batched_nms(b, s, i, 0.4),
        lambda seed, n: [*_rows(seed, n), torch.arange(n) * (seed + 7) % 3],
        _names("batched_nms", "boxes", "scores", "idxs"), syncs=True,
    ),
    "nms_rotated": Call(
        "nms_rotated", lambda on, b, s: on.nms_rotated(b, s, 0.3),
        lambda seed, n: [rotated(n, seed + 1), scores(n, seed)],
        _names("nms_rotated", "boxes", "scores"), syncs=True,
    ),
    "batched_nms_rotated": Call(
        "batched_nms_rotated", lambda on, b, s, i: on.batched_nms_rotated(b, s, i, 0.3),
        lambda seed, n: [rotated(n, seed + 1), scores(n, seed), torch.arange(n) * (seed + 7) % 3],
        _names("batched_nms_rotated", "boxes", "scores", "idxs"), syncs=True,
    ),
    "nms_3d": Call(
        "nms_3d", lambda on, b, s: on.nms_3d(b, s, 0.2), _rows_in_space,
        _names("nms_3d", "boxes", "scores"), syncs=True,
    ),
    "batched_nms_3d": Call(
        "batched_nms_3d", lambda on, b, s, i: on.batched_nms_3d(b, s, i, 0.2),
        lambda seed, n: [*_rows_in_space(seed, n), torch.arange(n) * (seed + 7) % 3],
        _names("batched_nms_3d", "boxes", "scores", "idxs"), syncs=True,
    ),
    "nms_bev": Call(
        "nms_bev", lambda on, b, s: on.nms_bev(b, s, 0.3), _rows_in_space,
        _names("nms_bev", "boxes", "scores"), syncs=True,
    ),
    "batched_nms_bev": Call(
        "batched_nms_bev", lambda on, b, s, i: on.batched_nms_bev(b, s, i, 0.3),
        lambda seed, n: [*_rows_in_space(seed, n), torch.arange(n) * (seed + 7) % 3],
        _names("batched_nms_bev", "boxes", "scores", "idxs"), syncs=True,
    ),
    "points_in_boxes": Call(
        "points_in_boxes", lambda on, p, b: tuple(on.points_in_boxes(p, b)),
        lambda seed, n: [cloud(n, seed), in_space(n // 4, seed + 1)],
        _names("points_in_boxes", "points", "boxes"),
    ),
    "soft_nms": Call(
        "soft_nms", lambda on, b, s: on.soft_nms(b, s), _rows,
        _names("soft_nms", "boxes", "scores"), syncs=True,
    ),
    # the last bit of exp may choose between two scores of half types
    "soft_nms gaussian": Call(
        "soft_nms", lambda on, b, s: on.soft_nms(b, s, method="gaussian"), _rows,
        _names("soft_nms", "boxes", "scores"), syncs=True, dtypes=(torch.float64,),
    ),
    "multiclass_nms": Call(
        "multiclass_nms", lambda on, b, s: on.multiclass_nms(b, s, 0.1, 0.4, 50, 30),
        lambda seed, n: [boxes(n, seed + 1)[None], scores(2 * n, seed).view(1, n, 2)],
        _names("multiclass_nms", "boxes", "scores"),
    ),
    "multiclass_nms rotated": Call(
        "multiclass_nms", lambda on, b, s: on.multiclass_nms(b, s, 0.1, 0.3, 50, 30),
        lambda seed, n: [rotated(n, seed + 1)[None], scores(2 * n, seed).view(1, n, 2)],
        _names("multiclass_nms", "boxes", "scores"),
    ),
    "weighted_boxes_fusion": Call(
        "weighted_boxes_fusion",
        lambda on, a, b, s, t, i, j: on.weighted_boxes_fusion([a, b], [s, t], [i, j], [2.0, 1.0]),
        lambda seed, n: [boxes(n, seed + 1), boxes(n, seed + 1) + 2, scores(n, seed),
                         scores(n, seed + 1), torch.arange(n) % 3, torch.arange(n) % 3],
        tuple(f"weighted_boxes_fusion: boxes[0] and {name}" for name in
              ("scores[0]", "boxes[1]", "scores[0]", "scores[1]", "labels[0]", "labels[1]")),
        syncs=True, dtypes=(torch.float32, torch.float64),
    ),
    "roi_align": Call(
        "roi_align", lambda on, x, r: on.roi_align(x, r, (3, 3), 0.5, 2), _pooled,
        _names("roi_align", "input", "boxes"), gradients=(0,),
    ),
    "roi_align channels-last": Call(
        "roi_align", lambda on, x, r: on.roi_align(x, r, (3, 3), 0.5, 2),
        lambda seed, n: [grid_map(24, seed).to(memory_format=LAST), rois(n, seed + 1)],
        _names("roi_align", "input", "boxes"), gradients=(0,),
    ),
    "roi_align_rotated": Call(
        "roi_align_rotated", lambda on, x, r: on.roi_align_rotated(x, r, (3, 3), 0.5, 2),
        _pooled_turned, _names("roi_align_rotated", "input", "boxes"), gradients=(0,),
    ),
    "roi_align_rotated channels-last": Call(
        "roi_align_rotated", lambda on, x, r: on.roi_align_rotated(x, r, (2, 3), 0.5, -1),
        lambda seed, n: [grid_map(24, seed).to(memory_format=torch.channels_last),
                         turned_rois(n, seed + 1)],
        _names("roi_align_rotated", "input", "boxes"), gradients=(0,),
    ),
    "multiscale_roi_align": Call(
        "multiscale_roi_align",
        lambda on, x, y, r: on.multiscale_roi_align([x, y], r, (3, 3), [0.5, 0.25], 2, 8, 1),
        lambda seed, n: [grid_map(24, seed), grid_map(12, seed), rois(n, seed + 1)],
        ("multiscale_roi_align: features and boxes",) * 3, gradients=(0, 1),
    ),
    "roi_pool": Call(
        "roi_pool", lambda on, x, r: on.roi_pool(x, r, (3, 3), 0.5), _pooled,
        _names("roi_pool", "input", "boxes"), gradients=(0,),
    ),
    "roi_pool channels-last": Call(
        "roi_pool", lambda on, x, r: on.roi_pool(x, r, (3, 3), 0.5),
        lambda seed, n: [grid_map(24, seed).to(memory_format=LAST), rois(n, seed + 1)],
        _names("roi_pool", "input", "boxes"), gradients=(0,),
    ),
}  # fmt: skip
