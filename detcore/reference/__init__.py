"""The same functions in plain PyTorch: what each op means. Tests and documentation use them."""

from .box3d_iou import bev_iou, box3d_iou
from .box_codec import decode_boxes, encode_boxes
from .box_iou import box_iou
from .box_iou_rotated import box_iou_rotated
from .decode_dense import decode_dense
from .match_boxes import match_boxes
from .multiclass_nms import multiclass_nms
from .multiscale_roi_align import multiscale_roi_align, pyramid_level
from .nms import batched_nms, nms
from .nms_3d import batched_nms_3d, batched_nms_bev, nms_3d, nms_bev
from .nms_rotated import batched_nms_rotated, nms_rotated
from .paired_box_iou import paired_box_iou
from .points_in_boxes import points_in_boxes
from .roi_align import roi_align
from .roi_align_rotated import roi_align_rotated
from .roi_pool import roi_pool
from .soft_nms import soft_nms
from .weighted_boxes_fusion import weighted_boxes_fusion

__all__ = [
    "batched_nms",
    "batched_nms_3d",
    "batched_nms_bev",
    "batched_nms_rotated",
    "bev_iou",
    "box3d_iou",
    "box_iou",
    "box_iou_rotated",
    "decode_boxes",
    "decode_dense",
    "encode_boxes",
    "match_boxes",
    "multiclass_nms",
    "multiscale_roi_align",
    "nms",
    "nms_3d",
    "nms_bev",
    "nms_rotated",
    "paired_box_iou",
    "points_in_boxes",
    "pyramid_level",
    "roi_align",
    "roi_align_rotated",
    "roi_pool",
    "soft_nms",
    "weighted_boxes_fusion",
]
