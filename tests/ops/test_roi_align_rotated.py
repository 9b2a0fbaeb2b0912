"""Tests of roi_align_rotated beyond those of the registry: values by hand, messages, edge cases."""

import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops._route import bind

from .conftest import FLOATS, Backend
from .test_roi_align import LAYOUTS, SHAPES, TOLERANCE, guarded, map_for

LAYOUT = pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])


def turned_rois(images: int, n: int, size: int = 40, seed: int = 0) -> Tensor:
    """[n, 6] float64 boxes at any angle: inside, across the border, outside, tiny."""
    g = torch.Generator().manual_seed(seed + n)
    image = torch.randint(0, images, (n, 1), generator=g)
    centre = torch.rand(n, 2, generator=g, dtype=torch.float64) * 2 * size - size / 2
    side = torch.rand(n, 2, generator=g, dtype=torch.float64) * 1.5 * size + 0.01
    angle = torch.rand(n, 1, generator=g, dtype=torch.float64) * 900 - 450
    return torch.cat((image, centre, side, angle), dim=1)


def ramps() -> Tensor:
    """[1, 2, 8, 8]: a pixel's column, and its row."""
    at = torch.arange(8.0)
    return torch.stack((at.expand(8, 8), at[:, None].expand(8, 8)))[None]


# --- values ---------------------------------------------------------------------------------------
# A box of 4 x 2 around the pixel (3.5, 3.5), 4 in coordinates whose pixel centres lie at .5. Of a
# ramp a bin's mean is the place of its centre: along u it is 1 away from the box's, along v 0.5.
BY_HAND = {
    0: ([[2.5, 4.5], [2.5, 4.5]], [[3, 3], [4, 4]]),
    90: ([[3, 3], [4, 4]], [[4.5, 2.5], [4.5, 2.5]]),  # from the bottom to the top
    180: ([[4.5, 2.5], [4.5, 2.5]], [[4, 4], [3, 3]]),
    -90: ([[4, 4], [3, 3]], [[2.5, 4.5], [2.5, 4.5]]),
    450: ([[3, 3], [4, 4]], [[4.5, 2.5], [4.5, 2.5]]),
}


@LAYOUT
@pytest.mark.parametrize("degrees", BY_HAND)
def test_values_by_hand(backend: Backend, degrees: int, layout) -> None:
    """A positive angle turns counter-clockwise as the image is seen, whose y points down."""
    want = torch.tensor(BY_HAND[degrees], dtype=torch.float32)[None]
    map = backend(ramps().to(memory_format=layout))
    for clockwise, sign in ((False, 1), (True, -1)):
        box = backend(torch.tensor([[0, 4.0, 4, 4, 2, sign * degrees]]))
        for ratio in (1, 2, -1):
            got = ops.roi_align_rotated(map, box, 2, 1.0, ratio, clockwise=clockwise)
            torch.testing.assert_close(got.cpu(), want, rtol=0, atol=0, check_stride=False)
    # half a pixel to the right and down without aligned; half the size of the image with a scale
    box = backend(torch.tensor([[0, 4.0, 4, 4, 2, degrees]]))
    got = ops.roi_align_rotated(map, box, 2, aligned=False)
    torch.testing.assert_close(got.cpu(), want + 0.5, rtol=0, atol=0, check_stride=False)
    box = backend(torch.tensor([[0, 8.0, 8, 8, 4, degrees]]))
    got = ops.roi_align_rotated(map, box, 2, 0.5)
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=0, check_stride=False)


def test_values_by_hand_at_an_oblique_angle(backend: Backend) -> None:
    """At the angle of a 3-4-5 triangle: u = (0.8, -0.6), v = (0.6, 0.8)."""
    degrees = math.degrees(math.atan2(3, 4))
    box = backend(torch.tensor([[0, 4.5, 4.5, 4, 2, degrees]]))
    got = ops.roi_align_rotated(backend(ramps()), box, (2, 2), 1.0, 2).cpu()
    x = [[4 - 0.8 - 0.3, 4 + 0.8 - 0.3], [4 - 0.8 + 0.3, 4 + 0.8 + 0.3]]
    y = [[4 + 0.6 - 0.4, 4 - 0.6 - 0.4], [4 + 0.6 + 0.4, 4 - 0.6 + 0.4]]
    torch.testing.assert_close(got, torch.tensor([[x, y]]), rtol=1e-6, atol=1e-6)


# What mmcv 1.7.2's CPU kernel gives for the map (7 i + 3) % 11 - 5 of [1, 1, 6, 7], i counting its
# pixels, and BOXES with their angles in radians: size (2, 3), scale 0.5. detectron2's kernel is
# that with aligned=True.
BOXES = [[0.0, 7, 6, 9, 5, 30], [0, 2, 3, 12, 4, -75], [0, 12, 10, 3, 0.5, 200]]
MMCV = {
    (2, True, False): [
        1.338511,
        -1.266092,
        0.509386,
        0.402795,
        -0.738486,
        0.72264,
        1.08157,
        1.056394,
        1.881018,
        -1.0,
        0.494718,
        0.102089,
        2.528997,
        1.290676,
        1.45339,
        3.076178,
        1.285278,
        0.933617,
    ],
    (2, True, True): [
        -1.968619,
        -0.860613,
        0.857468,
        1.725942,
        0.760288,
        -0.549772,
        -0.557517,
        0.624127,
        0.41843,
        -0.16335,
        0.926984,
        1.757617,
        0.670334,
        1.150593,
        0.092715,
        1.281645,
        1.273453,
        -0.2988,
    ],
    (-1, True, False): [
        1.338511,
        -1.266092,
        0.509386,
        0.402795,
        -0.738486,
        0.72264,
        1.08157,
        1.29591,
        1.881018,
        -1.0,
        0.479345,
        0.102089,
        2.649669,
        1.238889,
        1.595776,
        3.170928,
        1.233492,
        1.063722,
    ],
    (2, False, False): [
        1.826507,
        -0.631318,
        1.194008,
        -1.138635,
        -1.065515,
        0.987237,
        2.447236,
        -0.460851,
        1.243768,
        -0.823552,
        1.241581,
        0.467086,
        -0.839354,
        -0.925291,
        0.537365,
        1.435599,
        0.572394,
        1.196504,
    ],
    (0, False, True): [
        -1.756804,
        -0.524249,
        1.496745,
        2.035241,
        -1.172584,
        -0.097258,
        -0.937244,
        0.30953,
        2.16843,
        0.319462,
        -0.184339,
        0.456033,
        -1.0,
        -0.65798,
        1.221405,
        -0.616523,
        0.40954,
        1.256779,
    ],
}


@pytest.mark.parametrize(("ratio", "aligned", "clockwise"), MMCV)
def test_values_of_mmcv(backend: Backend, ratio: int, aligned: bool, clockwise: bool) -> None:
    map = ((torch.arange(42) * 7 + 3) % 11 - 5.0).view(1, 1, 6, 7)
    boxes = backend(torch.tensor(BOXES))
    got = ops.roi_align_rotated(backend(map), boxes, (2, 3), 0.5, ratio, aligned, clockwise)
    want = torch.tensor(MMCV[ratio, aligned, clockwise]).view(3, 1, 2, 3)
    torch.testing.assert_close(got.cpu(), want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("ratio", [-1, 1, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_without_an_angle_it_is_roi_align(backend: Backend, aligned: bool, ratio: int) -> None:
    input, rois = map_for((2, 6, 20, 25)), turned_rois(2, 30)
    rois[:, 5] = 0
    corners = ops.box_convert(rois[:, 1:5], "cxcywh", "xyxy")
    upright = torch.cat((rois[:, :1], corners), 1)
    want = ops.roi_align(input, upright, (3, 5), 0.6, ratio, aligned)
    got = ops.roi_align_rotated(backend(input), backend(rois), (3, 5), 0.6, ratio, aligned)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9)


@LAYOUT
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_reference(
    backend: Backend, shape: tuple, ratio: int, aligned: bool, dtype: torch.dtype, layout
) -> None:
    images, channels, height, width, n, output = shape
    if backend.simulated and (channels > 8 or output == (14, 14)) and ratio in (-1, 5):
        pytest.skip("shown by the smaller shapes; here the simulator takes long")
    input = map_for((images, channels, height, width)).to(dtype)
    rois = turned_rois(images, n)
    rois = rois if dtype == torch.float64 else rois.float()
    settings = (output, 0.5, ratio, aligned)
    want = reference.roi_align_rotated(input, rois, *settings)
    got = ops.roi_align_rotated(backend(input.to(memory_format=layout)), backend(rois), *settings)
    assert got.dtype == dtype and got.shape == (n, channels, *output)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(got.cpu(), want, rtol=tolerance, atol=tolerance, check_stride=False)


@LAYOUT
@pytest.mark.parametrize("ratio", [-1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "n", "output"),
    [
        ((2, 5, 30, 25), 30, (7, 5)),
        ((1, 70, 9, 11), 9, (2, 3)),
        ((3, 3, 8, 40), 90, (1, 1)),
        ((1, 1, 1, 1), 2, (3, 3)),
        ((2, 4, 16, 20), 0, (7, 7)),
    ],
    ids=str,
)
def test_gradient_equals_references(
    backend: Backend, shape: tuple, n: int, output: tuple, ratio: int, layout
) -> None:
    rois, leaf = turned_rois(shape[0], n, 30), map_for(shape).requires_grad_()
    pooled = reference.roi_align_rotated(leaf, rois, output, 0.7, ratio, False, True)
    grad = map_for(tuple(pooled.shape), seed=1)
    (want,) = torch.autograd.grad(pooled, leaf, grad)
    last = layout == torch.channels_last
    got = backend.native("roi_align_rotated_backward")(
        backend(grad.to(memory_format=layout)), backend(rois), 0.7, *output, ratio, False, True,
        list(shape), last,
    )  # fmt: skip
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9, check_stride=False)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradient_dtypes(backend: Backend, dtype: torch.dtype, last: bool) -> None:
    """Sums of half gradients are of full precision, and rounded once."""
    rois, back = turned_rois(2, 60, 12).float(), backend.native("roi_align_rotated_backward")
    grad = map_for((60, 8, 3, 3)).to(dtype)
    rest = (0.5, 3, 3, 2, True, False, [2, 8, 12, 12], last)
    got = back(backend(grad), backend(rois), *rest)
    want = back(backend(grad.double()), backend(rois.double()), *rest)
    assert got.dtype == dtype
    tolerance = 1e-2 if dtype.itemsize < 4 else 2e-4
    torch.testing.assert_close(got, want.to(dtype), rtol=tolerance, atol=tolerance)


# --- regions of every size ------------------------------------------------------------------------
@LAYOUT
def test_many_regions_share_their_pixels(backend: Backend, layout) -> None:
    """Groups of neighbours, of regions too large for a group, and of several chunks of lists."""
    n = 60 if backend.simulated else 250
    for size, output in ((20, (3, 2)), (90, (7, 7))):
        input, rois = map_for((2, 4, 80, 70)), turned_rois(2, n, size)
        for ratio in (2,) if backend.simulated else (2, -1):
            settings = (output, 0.8, ratio)
            want = reference.roi_align_rotated(input, rois, *settings)
            got = ops.roi_align_rotated(
                backend(input.to(memory_format=layout)), backend(rois), *settings
            )
            torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9, check_stride=False)


@LAYOUT
@pytest.mark.parametrize(
    ("size", "output", "ratio"),
    [
        ((60, 700), (1, 2), -1),
        ((40, 1500), (2, 1), -1),
        ((3, 1700), (1, 300), 2),
        ((9, 9), (70, 3), 9),
    ],
    ids=str,
)
def test_regions_beyond_the_lists(
    backend: Backend, size: tuple, output: tuple, ratio: int, layout
) -> None:
    """More pixels per bin, or samples, than the CPU kernel merges or lists."""
    if backend.simulated:
        size, output = tuple(min(s, 90) for s in size), tuple(min(o, 20) for o in output)
    height, width = size
    input = map_for((1, 2, height, width))
    rois = torch.tensor(
        [[0, width / 2, height / 2, width, height, 3], [0, 5, 5, width, height / 3, -40]]
    ).double()
    last = layout == torch.channels_last
    leaf = input.clone().requires_grad_()
    want = reference.roi_align_rotated(leaf, rois, output, 1.0, ratio)
    got = ops.roi_align_rotated(
        backend(input.to(memory_format=layout)), backend(rois), output, 1.0, ratio
    )
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9, check_stride=False)
    grad = map_for(tuple(want.shape), seed=1)
    (want,) = torch.autograd.grad(want, leaf, grad)
    got = backend.native("roi_align_rotated_backward")(
        backend(grad), backend(rois), 1.0, *output, ratio, True, False, list(input.shape), last
    )
    torch.testing.assert_close(got.cpu(), want, rtol=1e-8, atol=1e-8, check_stride=False)


@pytest.mark.parametrize("ratio", [3, 2**30])
def test_regions_outside_pool_to_zeros_whatever_the_ratio(backend: Backend, ratio: int) -> None:
    rois = torch.tensor([[0.0, 1e6, 1e6, 1e6, 1e6, 30], [0.0, -2e6, 3, 1e6, 10, 0]])
    out = ops.roi_align_rotated(backend(torch.ones(1, 2, 6, 6)), backend(rois), 3, 1.0, ratio)
    assert (out == 0).all()


@pytest.mark.parametrize("ratio", [-1, 2])
def test_regions_that_are_not_finite_pool_to_zeros(backend: Backend, ratio: int) -> None:
    bad = [math.nan, math.inf, -math.inf]
    rois = torch.tensor([[0.0, *([3.0] * k), b, *([3.0] * (4 - k))] for b in bad for k in range(5)])
    input = torch.ones(1, 2, 6, 6)
    for aligned in (True, False):
        out = ops.roi_align_rotated(backend(input), backend(rois), 3, 1.0, ratio, aligned)
        assert (out == 0).all()
        grad = backend.native("roi_align_rotated_backward")(
            torch.ones_like(out), backend(rois), 1.0, 3, 3, ratio, aligned, False, [1, 2, 6, 6],
            False,
        )  # fmt: skip
        assert (grad == 0).all()


def test_absurd_regions_end_soon(backend: Backend) -> None:
    rois = torch.tensor(
        [[0.0, 3, 3, 1e7, 1e7, 30], [0, 3, 3, 3e38, 3e38, 30], [0, 3e38, 3e38, 4, 4, 1e30],
         [0, 1e9, -1e9, 1e9, 3, 3e38]]
    )  # fmt: skip
    if backend.simulated:
        rois = rois[1:]
    input = backend(torch.ones(1, 2, 6, 6))
    for ratio in (-1, 2):
        out = ops.roi_align_rotated(input, backend(rois), 3, 1.0, ratio)
        assert out.shape == (len(rois), 2, 3, 3) and out.isfinite().all()


def test_sides_that_are_not_positive(backend: Backend) -> None:
    """An adaptive ratio has no samples there; a fixed one mirrors; not aligned: one pixel."""
    input = backend(ramps())
    rois = torch.tensor([[0, 4.0, 4, 0, 2, 0], [0, 4, 4, -2, 2, 0], [0, 4, 4, 2, 0, 30]])
    assert (ops.roi_align_rotated(input, backend(rois), 2) == 0).all()
    fixed = ops.roi_align_rotated(input, backend(rois), 2, 1.0, 1).cpu()
    assert fixed[:2, 0, 0].tolist() == [[3.5, 3.5], [4, 3]]
    small = ops.roi_align_rotated(input, backend(rois), (1, 2), 1.0, -1, False).cpu()
    assert small[:2, 0, 0].tolist() == [[3.75, 4.25]] * 2


@pytest.mark.parametrize("angle", [0.0, 90.0, 17.0])
def test_infinity_and_nan_in_the_map_propagate(backend: Backend, angle: float) -> None:
    """Where a pixel has a weight, and nowhere else."""
    input = torch.zeros(1, 1, 12, 12)
    input[0, 0, 2, 2], input[0, 0, 9, 9] = math.inf, math.nan
    rois = torch.tensor(
        [[0.0, 6, 6, 11, 11, angle], [0, 6, 6, 3, 3, angle], [0, 4.5, 2.5, 4, 4, angle]]
    )
    for layout in LAYOUTS:
        map = backend(input.to(memory_format=layout))
        got = ops.roi_align_rotated(map, backend(rois), 4, 1.0, 2).cpu()
        want = reference.roi_align_rotated(input, rois, (4, 4), 1.0, 2)
        torch.testing.assert_close(got, want, equal_nan=True, check_stride=False)
        assert got[0].isinf().any() and got[0].isnan().any() and got[1].isfinite().all()


def test_infinity_and_nan_in_the_gradient_stay_where_they_belong(backend: Backend) -> None:
    rois = torch.tensor([[0.0, 6, 6, 8, 8, 17], [0, 4, 4, 3, 3, 80]])
    grad = torch.ones(2, 1, 2, 2)
    grad[0, 0, 0, 0], grad[1, 0, 1, 1] = math.inf, math.nan
    leaf = torch.zeros(1, 1, 12, 12, requires_grad=True)
    pooled = reference.roi_align_rotated(leaf, rois, (2, 2), 1.0, 2)
    (want,) = torch.autograd.grad(pooled, leaf, grad)
    for last in (False, True):
        got = backend.native("roi_align_rotated_backward")(
            backend(grad), backend(rois), 1.0, 2, 2, 2, True, False, [1, 1, 12, 12], last
        )
        torch.testing.assert_close(got.cpu(), want, equal_nan=True, check_stride=False)
    assert want.isfinite().any() and want.isinf().any() and want.isnan().any()


# --- layouts, views, images -----------------------------------------------------------------------
def test_list_of_boxes_equals_rois() -> None:
    input, rois = map_for((3, 4, 20, 20)).float(), turned_rois(3, 12).float()
    rois = rois[rois[:, 0].sort(stable=True).indices]
    boxes = [rois[rois[:, 0] == i, 1:] for i in range(3)]
    want = ops.roi_align_rotated(input, rois, 3)
    assert torch.equal(ops.roi_align_rotated(input, boxes, 3), want)
    assert torch.equal(ops.RoIAlignRotated(3, 1.0)(input, boxes), want)
    assert ops.roi_align_rotated(input, [torch.zeros(0, 5)] * 3, 3).shape == (0, 4, 3, 3)


def test_module() -> None:
    input, rois = map_for((3, 4, 20, 20)), turned_rois(3, 12)
    settings = ((3, 4), 0.5, 2, False, True)
    module = ops.RoIAlignRotated(*settings)
    assert torch.equal(module(input, rois), ops.roi_align_rotated(input, rois, *settings))
    assert repr(module) == (
        "RoIAlignRotated(output_size=(3, 4), spatial_scale=0.5, sampling_ratio=2, aligned=False, "
        "clockwise=True)"
    )


def test_layout_is_kept_and_views_are_read(backend: Backend) -> None:
    input = backend(map_for((2, 8, 9, 9)).float().to(memory_format=torch.channels_last))
    rois = backend(turned_rois(2, 5).float())
    out = ops.roi_align_rotated(input, rois, 3)
    assert out.is_contiguous(memory_format=torch.channels_last)
    grad = backend.native("roi_align_rotated_backward")(
        torch.ones_like(out), rois, 1.0, 3, 3, -1, True, False, list(input.shape), True
    )
    assert grad.is_contiguous(memory_format=torch.channels_last)
    whole = map_for((2, 6, 20, 22)).float()
    for view in (whole[:, ::2], whole[:, :, 3:15, 2:], whole.mT, whole[:1].expand(2, -1, -1, -1)):
        got = ops.roi_align_rotated(backend(view), rois, 4, 0.5)
        assert torch.equal(got, ops.roi_align_rotated(backend(view.contiguous()), rois, 4, 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_features_take_float_boxes(backend: Backend, dtype: torch.dtype) -> None:
    input, rois = map_for((2, 8, 20, 20)).to(dtype), turned_rois(2, 10).float()
    got = ops.roi_align_rotated(backend(input), backend(rois), 7, 0.5, 2)
    want = ops.roi_align_rotated(input.float(), rois, 7, 0.5, 2)
    assert got.dtype == dtype
    torch.testing.assert_close(got.cpu().float(), want, rtol=1e-2, atol=1e-2)


@LAYOUT
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 17, 37])
def test_nothing_is_read_past_the_end(
    backend: Backend, channels: int, dtype: torch.dtype, layout
) -> None:
    """Whole vectors may read past a region, but never past the tensor."""
    if not backend.name.startswith("cpu"):
        pytest.skip("the CPU kernels' own care")
    input, rois = map_for((2, channels, 9, 11)).to(dtype), turned_rois(2, 20)
    rois[-2:] = torch.tensor([[1.0, 11, 9, 22, 18, 180], [1, 20, 16, 4, 4, 30]])
    rois = rois if dtype == torch.float64 else rois.float()
    for output, ratio in (((3, 3), 2), ((1, 1), -1)):
        settings = (output, 0.5, ratio)
        got = ops.roi_align_rotated(guarded(input, layout), rois, *settings)
        want = ops.roi_align_rotated(input.to(memory_format=layout), rois, *settings)
        assert torch.equal(got, want)
        back, last = backend.native("roi_align_rotated_backward"), layout == torch.channels_last
        rest = (rois, 0.5, *output, ratio, True, False, list(input.shape), last)
        assert torch.equal(back(guarded(got, layout), *rest), back(want, *rest))


@pytest.mark.parametrize("image", [-1.0, 2.0, 1e9, math.nan])
def test_image_out_of_range(image: float) -> None:
    rois = torch.tensor([[0.0, 2, 2, 4, 4, 0], [image, 2, 2, 4, 4, 0]])
    words = r"roi_align_rotated: boxes must name an image in \[0, 2\), got .* at box 1"
    with pytest.raises(ValueError, match=words):
        ops.roi_align_rotated(torch.ones(2, 1, 6, 6), rois, 3)


def test_image_out_of_range_pools_to_zeros_on_cuda(backend: Backend) -> None:
    if backend.name.startswith("cpu"):
        pytest.skip("raises on the CPU")
    rois = backend(torch.tensor([[i, 3.0, 3, 4, 4, 30] for i in (-1, 2, 1e9, math.nan)]))
    for ratio in (-1, 2):
        out = ops.roi_align_rotated(backend(torch.ones(2, 1, 6, 6)), rois, 3, 1.0, ratio)
        assert (out == 0).all()
        grad = backend.native("roi_align_rotated_backward")(
            torch.ones_like(out), rois, 1.0, 3, 3, ratio, True, False, [2, 1, 6, 6], False
        )
        assert (grad == 0).all()


# --- autograd -------------------------------------------------------------------------------------
@LAYOUT
def test_gradcheck_and_determinism(layout) -> None:
    input = map_for((2, 3, 6, 7)).to(memory_format=layout).requires_grad_()
    rois = turned_rois(2, 5, 14)
    pool = lambda x: ops.roi_align_rotated(x, rois, (2, 3), 0.5)  # noqa: E731
    assert torch.autograd.gradcheck(pool, input)
    assert torch.autograd.gradgradcheck(lambda x: pool(x).sin(), input)
    big = map_for((2, 40, 30, 30)).float().to(memory_format=layout).requires_grad_()
    rois, grad = turned_rois(2, 200).float(), torch.randn(200, 40, 7, 7)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = ops.roi_align_rotated(big, rois, 7, 0.7)
            results.append((out, *torch.autograd.grad(out, big, grad)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for r in results for a, b in zip(results[0], r, strict=True))


@pytest.mark.parametrize("grad", [False, True])
@LAYOUT
def test_opcheck(layout, grad: bool) -> None:
    input = map_for((2, 3, 6, 7)).float().to(memory_format=layout).requires_grad_(grad)
    rois, settings = turned_rois(2, 5, 14).float(), (0.5, 2, 3, 2, True, False)
    opcheck(torch.ops.detcore.roi_align_rotated, (input, rois, *settings))
    layout_of = ([2, 3, 6, 7], layout == LAYOUTS[1])
    g = torch.ones(5, 3, 2, 3, requires_grad=grad)
    opcheck(torch.ops.detcore.roi_align_rotated_backward, (g, rois, *settings, *layout_of))


# --- messages -------------------------------------------------------------------------------------
def backward(grad: Tensor, rois: Tensor, size: list[int]) -> Tensor:
    rest = (1.0, 3, 3, 2, True, False, size, False)
    return bind("roi_align_rotated_backward")(grad, rois, *rest)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda x, r: ops.roi_align_rotated(x[0], r, 3),
            "input must be [N, C, H, W], got [2, 6, 6]",
        ),
        (lambda x, r: ops.roi_align_rotated(x, r[:, :5], 3), "boxes must be [N, 6], got [2, 5]"),
        (lambda x, r: ops.roi_align_rotated(x, [r], 3), "boxes[0] must be [L, 5], got [2, 6]"),
        (
            lambda x, r: ops.roi_align_rotated(x, [r[:, 1:]] * 2, 3),
            "boxes must list one tensor per image, 1 of them, got 2",
        ),
        (
            lambda x, r: ops.roi_align_rotated(x, r, 3, 1.0, 2**32 + 2),
            "output_size and sampling_ratio must be at most 1073741824, got 3 x 3 and 4294967298",
        ),
        (
            lambda x, r: ops.roi_align_rotated(x, r, (3, 0)),
            "output_size must be positive, got 3 x 0",
        ),
        (
            lambda x, r: ops.roi_align_rotated(x, r, (3, 3, 3)),
            "output_size must be one number or two, got (3, 3, 3)",
        ),
        (
            lambda x, r: ops.roi_align_rotated(x, r, 3, -1.0),
            "spatial_scale must be positive, got -1",
        ),
        (
            lambda x, r: ops.roi_align_rotated(x[:, :, :0], r, 3),
            "input must not be empty where there are boxes, got [1, 2, 0, 6]",
        ),
        (
            lambda x, r: ops.roi_align_rotated(x.long(), r, 3),
            "input must be float32, float64, float16 or bfloat16, got int64",
        ),
        (
            lambda x, r: ops.roi_align_rotated(x[:, :, :1, :1].expand(-1, -1, 1, 2**31), r[:0], 3),
            "input must have fewer than 2147483648 rows and columns, got 1 x 2147483648",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(torch.ones(1, 2, 6, 6), torch.tensor([[0.0, 2, 2, 4, 4, 10]] * 2))
    assert str(raised.value) == f"roi_align_rotated: {words}"


@pytest.mark.parametrize(
    ("grad", "size", "words"),
    [
        ([1, 2, 6, 6], [1, 2, 6, 6], "grad must be [2, 2, 3, 3], got [1, 2, 6, 6]"),
        ([2, 2, 3, 3], [1, 2], "map_size must be [N, C, H, W], got [1, 2]"),
    ],
)
def test_errors_of_the_gradient(grad: list[int], size: list[int], words: str) -> None:
    with pytest.raises(ValueError) as raised:
        backward(torch.ones(grad), torch.tensor([[0.0, 2, 2, 4, 4, 10]] * 2), size)
    assert str(raised.value) == f"roi_align_rotated_backward: {words}"
