"""Fast detection ops: torch and numpy are all they need."""

from .box_codec import decode_boxes, encode_boxes
from .box_iou import box_iou, complete_box_iou, distance_box_iou, generalized_box_iou
from .boxes import box_area, box_convert, clip_boxes_to_image, remove_small_boxes
from .decode_dense import decode_dense
from .losses import (
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)
from .match_boxes import BoxMatches, match_boxes
from .multiclass_nms import multiclass_nms
from .multiscale_roi_align import multiscale_roi_align
from .nms import batched_nms, nms
from .paired_box_iou import paired_box_iou
from .pool import MultiScaleRoIAlign, RoIAlign
from .roi_align import roi_align
from .soft_nms import soft_nms

__all__ = [
    "BoxMatches",
    "MultiScaleRoIAlign",
    "RoIAlign",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "complete_box_iou",
    "complete_box_iou_loss",
    "decode_boxes",
    "decode_dense",
    "distance_box_iou",
    "distance_box_iou_loss",
    "encode_boxes",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "match_boxes",
    "multiclass_nms",
    "multiscale_roi_align",
    "nms",
    "paired_box_iou",
    "remove_small_boxes",
    "roi_align",
    "sigmoid_focal_loss",
    "soft_nms",
]
