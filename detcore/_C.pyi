"""The extension module: an entry per operator of csrc/bindings, and facts of the build.

Written by scripts/write_stubs.py from the operators' schemas.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

def build_facts() -> dict[str, Any]: ...
def handover() -> str: ...
def was_refused(words: str) -> bool: ...
def plain(args: tuple[Any, ...]) -> bool: ...
def set_plain_keys(outside: int, in_inference_mode: int) -> None: ...
def cuda_error() -> str | None: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor: ...
def batched_nms_3d(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor: ...
def batched_nms_bev(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor: ...
def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor: ...
def box3d_iou(boxes1: Tensor, boxes2: Tensor, from_above: bool) -> Tensor: ...
def box3d_iou_backward(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor, from_above: bool
) -> tuple[Tensor, Tensor]: ...
def box3d_iou_out(boxes1: Tensor, boxes2: Tensor, from_above: bool, out: Tensor) -> None: ...
def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor: ...
def box_iou_backward(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float
) -> tuple[Tensor, Tensor]: ...
def box_iou_out(
    boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float, out: Tensor
) -> None: ...
def box_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor: ...
def box_iou_rotated_backward(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor
) -> tuple[Tensor, Tensor]: ...
def box_iou_rotated_out(boxes1: Tensor, boxes2: Tensor, out: Tensor) -> None: ...
def decode_boxes(
    deltas: Tensor, anchors: Tensor, weights: Sequence[float], clip: float
) -> Tensor: ...
def decode_boxes_backward(
    grad: Tensor, deltas: Tensor, anchors: Tensor, weights: Sequence[float], clip: float
) -> tuple[Tensor, Tensor]: ...
def decode_dense(
    maps: Tensor, anchors: Tensor | None, codec: str, settings: Sequence[float]
) -> tuple[Tensor, Tensor]: ...
def decode_dense_backward(
    grad: Tensor, maps: Tensor, anchors: Tensor | None, codec: str, settings: Sequence[float]
) -> Tensor: ...
def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor: ...
def encode_boxes_backward(
    grad: Tensor, boxes: Tensor, anchors: Tensor, weights: Sequence[float]
) -> tuple[Tensor, Tensor]: ...
def match_boxes(
    gt: Tensor, anchors: Tensor, gt_offsets: Tensor | None, anchor_offsets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]: ...
def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_per_image: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
def multiscale_roi_align(
    features: Sequence[Tensor],
    rois: Tensor,
    scales: Sequence[float],
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> Tensor: ...
def multiscale_roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    scales: Sequence[float],
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
    images: int,
    map_sizes: Sequence[int],
    channels_last: bool,
) -> Sequence[Tensor]: ...
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor: ...
def nms_3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor: ...
def nms_bev(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor: ...
def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor: ...
def paired_box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor: ...
def paired_box_iou_backward(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float
) -> tuple[Tensor, Tensor]: ...
def points_in_boxes(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]: ...
def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor: ...
def roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    map_size: Sequence[int],
    channels_last: bool,
) -> Tensor: ...
def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> Tensor: ...
def roi_align_rotated_backward(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
    map_size: Sequence[int],
    channels_last: bool,
) -> Tensor: ...
def roi_pool(
    input: Tensor, rois: Tensor, spatial_scale: float, out_height: int, out_width: int
) -> tuple[Tensor, Tensor]: ...
def roi_pool_backward(
    grad: Tensor,
    rois: Tensor,
    argmax: Tensor,
    spatial_scale: float,
    map_size: Sequence[int],
    channels_last: bool,
) -> Tensor: ...
def soft_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, min_score: float, method: str
) -> tuple[Tensor, Tensor]: ...
def weighted_boxes_fusion(
    boxes: Tensor,
    scores: Tensor,
    weights: Tensor,
    labels: Tensor,
    models: Tensor,
    order: Tensor,
    model_weights: Sequence[float],
    iou_threshold: float,
    skip_box_threshold: float,
    conf_type: str,
) -> tuple[Tensor, Tensor, Tensor]: ...
