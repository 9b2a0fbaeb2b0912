"""Forms of boxes in space, in plain PyTorch."""

import math

import torch
from torch import Tensor

from ._route import numpy_too

FORMATS = ("centre", "bottom", "kitti", "camera")


@numpy_too
def box3d_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Convert boxes in space from one form to another.

    ======== ==================== ============= ==================== ===============================
    format   numbers              point         axes                 angle
    ======== ==================== ============= ==================== ===============================
    "centre" x y z dx dy dz yaw   centre        z up                 about z, counter-clockwise as
                                                                     seen from above; 0: dx along x
    "bottom" x y z dx dy dz yaw   bottom centre z up                 likewise
    "kitti"  h w l x y z ry       bottom centre x right, y down,     about y, clockwise as seen from
                                                z forward            above; 0: l along x
    "camera" x y z l h w ry       bottom centre as "kitti"           as "kitti"
    ======== ==================== ============= ==================== ===============================

    "centre" is what the ops take, and OpenPCDet's. "bottom" is mmdet3d's LiDARInstance3DBoxes
    (1.0 and later). "kitti" is a line of a KITTI label from its ninth field on, and "camera" the
    same numbers in the order of mmdet3d's CameraInstance3DBoxes and of OpenPCDet's camera boxes.

    A camera's forward, left and up become x, y and z, as a LiDAR that stands where the camera is
    and looks where it looks would have them:

    ======================= ==============================
    of "centre"             from "kitti"
    ======================= ==============================
    x, y, z                 z, -x, h / 2 - y
    dx, dy, dz              l, w, h
    yaw                     -ry - pi / 2
    ======================= ==============================

    A real LiDAR stands elsewhere: the calibration that a data set gives (KITTI: `Tr_velo_to_cam`)
    has to be applied to the points beside.

    Args:
        boxes: [..., 7] in the format `in_fmt`, lengths in one unit, angles in radians; a floating
            dtype.
        in_fmt: "centre", "bottom", "kitti" or "camera".
        out_fmt: likewise.

    Returns:
        [..., 7] of `out_fmt`, a copy in the same dtype. Differentiable. Angles are not brought into
        a range: there and back gives the same angle, up to rounding.

    Raises:
        ValueError: for an unknown format, another last dimension, or a dtype without fractions.

    Edge cases:
        Equal formats give a copy. Half precision is computed in float32.

    Cost:
        A few elementwise PyTorch operations.

    Equivalents:
        mmdet3d.structures.Box3DMode.convert between CAM and LIDAR without rt_mat: "camera" and
        "bottom". OpenPCDet's box_utils.boxes3d_kitti_camera_to_lidar applies a calibration too.

    Example:
        >>> import torch
        >>> from detcore.ops import box3d_convert
        >>> label = "Car 0.00 0 1.55 614 181 727 284 1.57 1.73 4.15 1.00 1.75 13.22 1.62"
        >>> box = torch.tensor([float(field) for field in label.split()[8:15]])
        >>> box3d_convert(box, "kitti", "centre")
        tensor([13.2200, -1.0000, -0.9650,  4.1500,  1.7300,  1.5700, -3.1908])

    See Also:
        `box3d_iou`, `nms_3d`, `points_in_boxes`, which take "centre". `box_convert`: boxes of
        images.
    """
    for name, fmt in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        if fmt not in FORMATS:
            raise ValueError(
                f"box3d_convert: {name} must be one of {', '.join(FORMATS)}, got '{fmt}'"
            )
    if boxes.dim() == 0 or boxes.shape[-1] != 7:
        raise ValueError(f"box3d_convert: boxes must be [..., 7], got {list(boxes.shape)}")
    if not boxes.is_floating_point():
        got = str(boxes.dtype).removeprefix("torch.")
        raise ValueError(f"box3d_convert: boxes must be of a floating dtype, got {got}")
    if in_fmt == out_fmt:
        return boxes.clone()
    wide = boxes.float() if boxes.dtype in (torch.float16, torch.bfloat16) else boxes
    return _from_centre(_to_centre(wide, in_fmt), out_fmt).to(boxes.dtype)


def _to_centre(boxes: Tensor, fmt: str) -> Tensor:
    if fmt == "centre":
        return boxes
    if fmt == "bottom":
        x, y, z, dx, dy, dz, yaw = boxes.unbind(-1)
        return torch.stack((x, y, z + dz / 2, dx, dy, dz, yaw), -1)
    if fmt == "kitti":
        h, w, l, x, y, z, ry = boxes.unbind(-1)  # noqa: E741
    else:
        x, y, z, l, h, w, ry = boxes.unbind(-1)  # noqa: E741
    return torch.stack((z, -x, h / 2 - y, l, w, h, -ry - math.pi / 2), -1)


def _from_centre(boxes: Tensor, fmt: str) -> Tensor:
    x, y, z, dx, dy, dz, yaw = boxes.unbind(-1)
    if fmt == "centre":
        return boxes
    if fmt == "bottom":
        return torch.stack((x, y, z - dz / 2, dx, dy, dz, yaw), -1)
    place, turn = (-y, dz / 2 - z, x), -yaw - math.pi / 2
    if fmt == "kitti":
        return torch.stack((dz, dy, dx, *place, turn), -1)
    return torch.stack((*place, dx, dz, dy, turn), -1)
