"""box3d_convert: boxes worked out by hand, and corners by each library's own formula."""

import math

import pytest
import torch
from torch import Tensor

from detcore import ops
from detcore.ops.boxes3d import FORMATS
from detcore.ops.samples import random_boxes_3d

PI = math.pi

# A car ahead that drives away, one on the left that drives to the right, one on the right at half
# an angle. The camera is at the origin, one metre above the ground.
BY_HAND = {
    # 20 m ahead, 1.5 m high, on the ground: the camera sees its bottom 1 m below itself. It points
    # forward, which is rotation_y -pi / 2 and yaw 0
    "ahead": {
        "centre": [20.0, 0.0, -0.25, 4.0, 1.8, 1.5, 0.0],
        "bottom": [20.0, 0.0, -1.0, 4.0, 1.8, 1.5, 0.0],
        "kitti": [1.5, 1.8, 4.0, 0.0, 1.0, 20.0, -PI / 2],
        "camera": [0.0, 1.0, 20.0, 4.0, 1.5, 1.8, -PI / 2],
    },
    # 5 m to the left and 10 m ahead; it points to the camera's right: rotation_y 0, yaw -pi / 2
    "left": {
        "centre": [10.0, 5.0, 0.0, 4.0, 1.8, 2.0, -PI / 2],
        "bottom": [10.0, 5.0, -1.0, 4.0, 1.8, 2.0, -PI / 2],
        "kitti": [2.0, 1.8, 4.0, -5.0, 1.0, 10.0, 0.0],
        "camera": [-5.0, 1.0, 10.0, 4.0, 2.0, 1.8, 0.0],
    },
    # 3 m to the right, 8 m ahead, its bottom 0.5 m above the camera; it points ahead and to the
    # left: yaw pi / 4, rotation_y -3 pi / 4
    "right": {
        "centre": [8.0, -3.0, 1.0, 2.0, 1.0, 1.0, PI / 4],
        "bottom": [8.0, -3.0, 0.5, 2.0, 1.0, 1.0, PI / 4],
        "kitti": [1.0, 1.0, 2.0, 3.0, -0.5, 8.0, -3 * PI / 4],
        "camera": [3.0, -0.5, 8.0, 2.0, 1.0, 1.0, -3 * PI / 4],
    },
}


@pytest.mark.parametrize("out_fmt", FORMATS)
@pytest.mark.parametrize("in_fmt", FORMATS)
@pytest.mark.parametrize("name", BY_HAND)
def test_boxes_by_hand(name: str, in_fmt: str, out_fmt: str) -> None:
    given = torch.tensor(BY_HAND[name][in_fmt], dtype=torch.float64)
    want = torch.tensor(BY_HAND[name][out_fmt], dtype=torch.float64)
    got = ops.box3d_convert(given, in_fmt, out_fmt)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def corners(boxes: Tensor) -> Tensor:
    """[N, 8, 3] of "centre", along dx, dy and dz."""
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3)
    x, y, z = (signs * boxes[:, None, 3:6]).unbind(-1)
    cos, sin = boxes[:, None, 6].cos(), boxes[:, None, 6].sin()
    return boxes[:, None, :3] + torch.stack((x * cos - y * sin, x * sin + y * cos, z), -1)


def corners_of_kitti(boxes: Tensor) -> Tensor:
    """[N, 8, 3] in the camera's axes, as the devkit's readme has them: l along x and w along z,
    turned by [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], y from the bottom's -h to 0."""
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3)
    h, w, l, *_, ry = (n[:, None] for n in boxes.unbind(-1))  # noqa: E741
    x, z, y = signs[:, 0] * l, signs[:, 1] * w, -(signs[:, 2] + 0.5) * h
    turned = torch.stack((x * ry.cos() + z * ry.sin(), y, z * ry.cos() - x * ry.sin()), -1)
    return boxes[:, None, 3:6] + turned


def test_the_corners_are_the_same_points() -> None:
    boxes = random_boxes_3d(50)
    camera = corners_of_kitti(ops.box3d_convert(boxes, "centre", "kitti"))
    x, y, z = camera.unbind(-1)
    seen = torch.stack((z, -x, -y), -1)  # ahead, left, up
    torch.testing.assert_close(seen, corners(boxes), rtol=0, atol=1e-9)


@pytest.mark.parametrize("fmt", FORMATS)
def test_there_and_back(fmt: str) -> None:
    boxes = random_boxes_3d(20).view(4, 5, 7)
    for dtype, off in ((torch.float64, 1e-12), (torch.float32, 1e-4), (torch.float16, 0.1)):
        given = boxes.to(dtype)
        got = ops.box3d_convert(ops.box3d_convert(given, "centre", fmt), fmt, "centre")
        assert got.dtype == dtype and got.data_ptr() != given.data_ptr()
        torch.testing.assert_close(got, given, rtol=0, atol=off)
    empty = ops.box3d_convert(torch.zeros(0, 7), fmt, "centre")
    assert empty.shape == (0, 7)


def test_derivatives_and_numpy() -> None:
    boxes = random_boxes_3d(3).requires_grad_()
    for fmt in FORMATS:
        assert torch.autograd.gradcheck(lambda b, f=fmt: ops.box3d_convert(b, f, "centre"), boxes)
    array = boxes.detach().numpy()
    want = ops.box3d_convert(boxes.detach(), "centre", "bottom")
    assert ops.box3d_convert(array, "centre", "bottom").tolist() == want.tolist()


def test_compiles() -> None:
    boxes = random_boxes_3d(3)
    convert = torch.compile(ops.box3d_convert, fullgraph=True, backend="eager")
    assert torch.equal(
        convert(boxes, "kitti", "centre"), ops.box3d_convert(boxes, "kitti", "centre")
    )


@pytest.mark.parametrize(
    ("boxes", "in_fmt", "words"),
    [
        (torch.zeros(2, 7), "center", "in_fmt must be one of centre, bottom, kitti, camera, got"),
        (torch.zeros(2, 5), "kitti", r"boxes must be \[..., 7\], got \[2, 5\]"),
        (torch.tensor(1.0), "kitti", r"boxes must be \[..., 7\], got \[\]"),
        (torch.zeros(2, 7).long(), "kitti", "boxes must be of a floating dtype, got int64"),
    ],
)
def test_wrong_arguments_are_named(boxes: Tensor, in_fmt: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"box3d_convert: {words}"):
        ops.box3d_convert(boxes, in_fmt, "centre")
