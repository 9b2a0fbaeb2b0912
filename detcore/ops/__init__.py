"""Fast detection ops for PyTorch. They need torch and numpy alone.

Overlap of boxes
    box_iou                     IoU of every pair, [N, 4] x [M, 4] -> [N, M]; rotated boxes too
    generalized_box_iou         GIoU of every pair
    distance_box_iou            DIoU of every pair
    complete_box_iou            CIoU of every pair
    paired_box_iou              one of the four, box by box, [..., 4] x [..., 4] -> [...]; IoU and
                                GIoU of rotated boxes too

Boxes in space
    box3d_iou                   IoU of every pair, [N, 7] x [M, 7] -> [N, M]
    bev_iou                     the same as seen from above
    nms_3d, nms_bev             nms by these IoUs
    batched_nms_3d              nms_3d within each class
    batched_nms_bev             nms_bev within each class
    points_in_boxes             the box of each point, and the number of points in each box
    PointsInBoxes               its result
    box3d_convert               from and to the forms of mmdet3d and KITTI

Suppression
    nms                         the indices of the boxes to keep
    batched_nms                 nms within each class
    nms_rotated                 nms of rotated boxes
    batched_nms_rotated         nms_rotated within each class
    soft_nms                    lower the scores of overlapping boxes instead
    weighted_boxes_fusion       the mean of boxes on which several models agree
    multiclass_nms              threshold, top-k and nms per class for a whole batch

Matching
    match_boxes                 the best ground truth per anchor, and the reverse
    BoxMatches                  its result

Coding of boxes
    encode_boxes, decode_boxes  the delta codec of R-CNN and SSD
    decode_dense                boxes and scores from the raw map of a dense head

Pooling of regions
    roi_align                   regions of a map to a fixed size
    multiscale_roi_align        the same from a feature pyramid
    roi_align_rotated           the same of rotated boxes
    roi_pool                    the maxima of regions, of whole pixels
    RoIAlign, RoIPool           roi_align and roi_pool as modules
    RoIAlignRotated             roi_align_rotated as a module
    MultiScaleRoIAlign          multiscale_roi_align as a module

Losses
    generalized_box_iou_loss    1 - GIoU
    distance_box_iou_loss       1 - DIoU
    complete_box_iou_loss       1 - CIoU
    probiou_loss, kfiou_loss    of rotated boxes, as Gaussians
    sigmoid_focal_loss          focal loss of logits

Small box functions
    box_area, box_convert, clip_boxes_to_image, remove_small_boxes, masks_to_boxes

All take float32, float64, float16 and bfloat16, empty and non-contiguous tensors, and numpy
arrays, and work under autograd, torch.compile(fullgraph=True) and torch.export. Results are
deterministic on every device and number of threads. Try help(ops.nms) for one of them.
"""

from .box3d_iou import bev_iou, box3d_iou
from .box_codec import decode_boxes, encode_boxes
from .box_iou import box_iou, complete_box_iou, distance_box_iou, generalized_box_iou
from .boxes import (
    box_area,
    box_convert,
    clip_boxes_to_image,
    masks_to_boxes,
    remove_small_boxes,
)
from .boxes3d import box3d_convert
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
from .nms_3d import batched_nms_3d, batched_nms_bev, nms_3d, nms_bev
from .nms_rotated import batched_nms_rotated, nms_rotated
from .paired_box_iou import paired_box_iou
from .points_in_boxes import PointsInBoxes, points_in_boxes
from .pool import MultiScaleRoIAlign, RoIAlign, RoIAlignRotated, RoIPool
from .roi_align import roi_align
from .roi_align_rotated import roi_align_rotated
from .roi_pool import roi_pool
from .rotated_losses import kfiou_loss, probiou_loss
from .soft_nms import soft_nms
from .weighted_boxes_fusion import weighted_boxes_fusion

__all__ = [
    "BoxMatches",
    "MultiScaleRoIAlign",
    "PointsInBoxes",
    "RoIAlign",
    "RoIAlignRotated",
    "RoIPool",
    "batched_nms",
    "batched_nms_3d",
    "batched_nms_bev",
    "batched_nms_rotated",
    "bev_iou",
    "box3d_convert",
    "box3d_iou",
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
    "kfiou_loss",
    "masks_to_boxes",
    "match_boxes",
    "multiclass_nms",
    "multiscale_roi_align",
    "nms",
    "nms_3d",
    "nms_bev",
    "nms_rotated",
    "paired_box_iou",
    "points_in_boxes",
    "probiou_loss",
    "remove_small_boxes",
    "roi_align",
    "roi_align_rotated",
    "roi_pool",
    "sigmoid_focal_loss",
    "soft_nms",
    "weighted_boxes_fusion",
]
