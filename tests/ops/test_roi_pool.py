"""Tests of roi_pool beyond those of the registry: messages, edge cases, peers."""

import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops._route import bind

from .conftest import FLOATS, Backend
from .peers import tv
from .test_roi_align import LAYOUTS, SHAPES, guarded, map_for, rois_for

LAYOUT = pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])


def same(got: Tensor, want: Tensor) -> None:
    """To the bit, and infinity too: a maximum is one of the map's own values."""
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=0, check_stride=False)


def few_values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A map in which most maxima are tied."""
    return map_for(shape, seed).round()


def torchvisions(input: Tensor, rois: Tensor, *settings: object) -> tuple[Tensor, Tensor]:
    """Its maxima, and their places."""
    size, scale = settings
    found = torch.ops.torchvision.roi_pool(input, rois, scale, *size)  # type: ignore[misc]
    return found[0], found[1]


@LAYOUT
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_reference(backend: Backend, shape: tuple, dtype: torch.dtype, layout) -> None:
    images, channels, height, width, n, output = shape
    input = map_for((images, channels, height, width)).to(dtype)
    rois = rois_for(images, n)
    rois = rois if dtype == torch.float64 else rois.float()
    got = ops.roi_pool(backend(input.to(memory_format=layout)), backend(rois), output, 0.5)
    assert got.dtype == dtype and got.shape == (n, channels, *output)
    same(got, reference.roi_pool(input, rois, output, 0.5))


@LAYOUT
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.6, 1 / 16, 3.0])
@pytest.mark.parametrize("output", [(1, 1), (7, 7), (3, 70), (2, 5)], ids=str)
def test_equals_torchvision_in_values_and_places(
    backend: Backend, output: tuple, scale: float, dtype: torch.dtype, layout
) -> None:
    if backend.simulated and output == (3, 70):
        output = (3, 9)  # the width of the CPU kernel's lists, which is nothing there
    for make in (map_for, few_values):
        input = make((2, 6, 30, 25)).to(dtype)
        rois = rois_for(2, 40, int(60 / scale)).to(dtype)
        rois[::4, 1:] = rois[::4, 1:].round() + 0.5 / scale  # halves, which round away from zero
        want, places = torchvisions(input, rois, output, scale)
        native = backend.native("roi_pool")
        map = backend(input.to(memory_format=layout))
        got, got_places = native(map, backend(rois), scale, *output)
        same(got, want)
        same(got_places, places)
        same(ops.roi_pool(map, backend(rois), output, scale), want)


@LAYOUT
def test_gradient_equals_torchvisions(backend: Backend, layout) -> None:
    """Of tied maxima too; small regions have many bins on one pixel."""
    for make in (map_for, few_values):
        for shape, scale in (((2, 6, 30, 25), 0.6), ((2, 40, 9, 11), 0.1)):
            input, rois = make(shape), rois_for(2, 50, 60)
            leaf = input.clone().requires_grad_()
            out = tv.roi_pool(leaf, rois, (7, 5), scale)
            grad = map_for(tuple(out.shape), seed=1)
            (want,) = torch.autograd.grad(out, leaf, grad)
            map, regions = backend(input.to(memory_format=layout)), backend(rois)
            # by the operators themselves: autograd's are not the simulator's
            _, places = backend.native("roi_pool")(map, regions, scale, 7, 5)
            got = backend.native("roi_pool_backward")(
                backend(grad), regions, places, scale, list(shape), layout == torch.channels_last
            )
            torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-12, check_stride=False)
            leaf = map.clone().requires_grad_()
            ops.roi_pool(leaf, regions, (7, 5), scale).backward(backend(grad))
            torch.testing.assert_close(leaf.grad, got, rtol=1e-9, atol=1e-12, check_stride=False)


@LAYOUT
@pytest.mark.parametrize("odd", [math.nan, -math.inf, math.inf, -3.4028234663852886e38, -1e300])
def test_odd_pixels_give_what_torchvision_gives(backend: Backend, odd: float, layout) -> None:
    """-FLT_MAX, and what is not above it, is never a maximum."""
    for dtype in (torch.float32, torch.float64):
        for share in (0.3, 1.0):
            input = map_for((2, 9, 12, 13))
            mask = torch.rand(input.shape, generator=torch.Generator().manual_seed(1)) < share
            input = input.masked_fill(mask, odd).to(dtype)
            rois = rois_for(2, 20, 20).to(dtype)
            want, places = torchvisions(input, rois, (4, 3), 1.0)
            got, got_places = backend.native("roi_pool")(
                backend(input.to(memory_format=layout)), backend(rois), 1.0, 4, 3
            )
            same(got, want)
            same(got_places, places)


def test_zeros_of_either_sign_are_equal(backend: Backend) -> None:
    for values in ([-0.0, 0.0], [0.0, -0.0]):
        input = torch.tensor(values).view(1, 1, 1, 2)
        out = ops.roi_pool(backend(input), backend(torch.tensor([[0.0, 0, 0, 1, 0]])), 1)
        assert math.copysign(1, out.item()) == math.copysign(1, values[0])


def test_list_of_boxes_equals_rois() -> None:
    input, rois = map_for((3, 4, 20, 20)).float(), rois_for(3, 12).float()
    rois = rois[rois[:, 0].sort(stable=True).indices]
    boxes = [rois[rois[:, 0] == i, 1:] for i in range(3)]
    assert torch.equal(ops.roi_pool(input, boxes, 3), ops.roi_pool(input, rois, 3))
    assert torch.equal(ops.roi_pool(input, boxes, 3), tv.roi_pool(input, boxes, 3))
    assert ops.roi_pool(input, [torch.zeros(0, 4)] * 3, 3).shape == (0, 4, 3, 3)


def test_layout_is_kept_and_views_are_read(backend: Backend) -> None:
    input = backend(map_for((2, 8, 9, 9)).float().to(memory_format=torch.channels_last))
    rois = backend(rois_for(2, 5).float())
    out, places = backend.native("roi_pool")(input, rois, 1.0, 3, 3)
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (out, places))
    grad = backend.native("roi_pool_backward")(out, rois, places, 1.0, list(input.shape), True)
    assert grad.is_contiguous(memory_format=torch.channels_last)
    whole = map_for((2, 6, 20, 22)).float()
    for view in (whole[:, ::2], whole[:, :, 3:15, 2:], whole.mT, whole[:1].expand(2, -1, -1, -1)):
        got = ops.roi_pool(backend(view), rois, 4, 0.5)
        assert torch.equal(got, ops.roi_pool(backend(view.contiguous()), rois, 4, 0.5))


def test_regions_that_are_not_finite_or_outside_pool_to_zeros(backend: Backend) -> None:
    bad = [math.nan, math.inf, -math.inf]
    rois = [[0.0, *([1.0] * k), b, *([5.0] * (3 - k))] for b in bad for k in range(4)]
    rois += [[0.0, 1e6, 1e6, 2e6, 2e6], [0.0, -2e6, -2e6, -1e6, -1e6], [0.0, 3e38, 0, 3e38, 4]]
    regions, input = backend(torch.tensor(rois)), backend(torch.ones(1, 2, 6, 6))
    out, places = backend.native("roi_pool")(input, regions, 2.0, 3, 3)
    assert (out == 0).all() and (places == -1).all()
    back = backend.native("roi_pool_backward")
    assert (back(torch.ones_like(out), regions, places, 2.0, [1, 2, 6, 6], False) == 0).all()
    # finite but absurd: every bin of the first covers the map, or one end of it
    absurd = backend(torch.tensor([[0.0, -1e30, -1e30, 1e30, 1e30], [0.0, 4, 4, 2, 2]]))
    assert ops.roi_pool(input, absurd, 1).flatten().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("image", [-1.0, 2.0, 1e9, math.nan])
def test_image_out_of_range(image: float) -> None:
    rois = torch.tensor([[0.0, 0, 0, 4, 4], [image, 0, 0, 4, 4]])
    words = r"roi_pool: boxes must name an image in \[0, 2\), got .* at box 1"
    with pytest.raises(ValueError, match=words):
        ops.roi_pool(torch.ones(2, 1, 6, 6), rois, 3)


@LAYOUT
def test_image_out_of_range_pools_to_zeros_on_cuda(backend: Backend, layout) -> None:
    if backend.name.startswith("cpu"):
        pytest.skip("raises on the CPU")
    rois = backend(torch.tensor([[i, 0.0, 0, 4, 4] for i in (-1, 2, 1e9, math.nan)]))
    input = backend(torch.ones(2, 4, 6, 6).to(memory_format=layout))
    out, places = backend.native("roi_pool")(input, rois, 1.0, 3, 3)
    assert (out == 0).all() and (places == -1).all()
    last = layout == torch.channels_last
    back = backend.native("roi_pool_backward")
    assert (back(torch.ones_like(out), rois, places, 1.0, [2, 4, 6, 6], last) == 0).all()
    if backend.name == "cuda":
        out = ops.roi_pool(input.requires_grad_(), rois, 3)
        (grad,) = torch.autograd.grad(out, input, torch.ones_like(out), create_graph=True)
        assert (grad == 0).all()


def test_maps_without_pixels(backend: Backend) -> None:
    rois = backend(torch.tensor([[0.0, 0, 0, 4, 4]]))
    for shape in ((1, 2, 0, 6), (1, 2, 6, 0), (1, 0, 6, 6)):
        out, places = backend.native("roi_pool")(backend(torch.ones(shape)), rois, 1.0, 3, 3)
        assert out.shape == (1, shape[1], 3, 3) and (out == 0).all() and (places == -1).all()
        back = backend.native("roi_pool_backward")
        assert back(out, rois, places, 1.0, list(shape), False).shape == shape
        input = backend(torch.ones(shape)).requires_grad_()
        out = ops.roi_pool(input, rois, 3)
        (grad,) = torch.autograd.grad(out.sum(), input, create_graph=True)
        assert grad.shape == shape and (grad == 0).all()


def test_regions_wider_than_the_short_lists(backend: Backend) -> None:
    """More columns than the CPU kernel keeps: bins of several pieces."""
    width = 300 if backend.simulated else 5000
    for make in (map_for, few_values):
        input = make((1, 2, 3, width)).float()
        rois = torch.tensor([[0.0, 0, 0, width - 1, 2], [0, 100, 0, width - 50, 1]])
        for output in ((2, 1), (1, 2), (2, 3), (1, 130)):
            want, places = torchvisions(input, rois, output, 1.0)
            for layout in LAYOUTS:
                map = backend(input.to(memory_format=layout))
                got, at = backend.native("roi_pool")(map, backend(rois), 1.0, *output)
                same(got, want)
                same(at, places)


@pytest.mark.slow
def test_a_map_of_more_elements_than_32_bits_count() -> None:
    input = torch.zeros(1, 3, 1, 2**30, dtype=torch.float16)
    input[0, 2, 0, -1] = 1
    at = float(2**30 - 64)
    out = ops.roi_pool(input, torch.tensor([[0.0, at, 0, 2.0**30, 1]]), (1, 2), 1.0)
    assert out[0, 2].flatten().tolist() == [0, 1] and (out[0, :2] == 0).all()


@LAYOUT
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 17, 37])
def test_nothing_is_read_past_the_end(
    backend: Backend, channels: int, dtype: torch.dtype, layout
) -> None:
    """Whole vectors may read past a region, but never past the tensor."""
    if not backend.name.startswith("cpu"):
        pytest.skip("the CPU kernels' own care")
    input, rois = map_for((2, channels, 9, 11)).to(dtype), rois_for(2, 20).double()
    rois[-3:] = torch.tensor([[1.0, 0, 0, 22, 18], [1, 18, 14, 22, 18], [0, 20, 16, 30, 30]])
    rois = rois if dtype == torch.float64 else rois.float()
    got = ops.roi_pool(guarded(input, layout), rois, 3, 0.5)
    assert torch.equal(got, ops.roi_pool(input.to(memory_format=layout), rois, 3, 0.5))
    tiny = input[..., :2, :3].contiguous()
    got = ops.roi_pool(guarded(tiny, layout), rois, 2, 0.1)
    assert torch.equal(got, ops.roi_pool(tiny, rois, 2, 0.1))


@LAYOUT
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradient_dtypes(backend: Backend, dtype: torch.dtype, layout) -> None:
    """Sums of half gradients are of full precision, and rounded once."""
    rois, last = rois_for(2, 60, 12).float(), layout == torch.channels_last
    out, places = bind("roi_pool")(
        map_for((2, 8, 12, 12)).to(memory_format=layout), rois, 0.5, 3, 3
    )
    grad, back = map_for(tuple(out.shape), seed=2).to(dtype), backend.native("roi_pool_backward")
    rest = (backend(places), 0.5, [2, 8, 12, 12], last)
    got = back(backend(grad), backend(rois), *rest)
    want = back(backend(grad.double()), backend(rois.double()), *rest)
    assert got.dtype == dtype
    torch.testing.assert_close(
        got, want.to(dtype), rtol=1e-2 if dtype.itemsize < 4 else 1e-5, atol=1e-5
    )


def test_infinity_and_nan_in_the_gradient_stay_where_they_belong(backend: Backend) -> None:
    input = torch.arange(36.0).view(1, 1, 6, 6)
    rois = torch.tensor([[0.0, 0, 0, 5, 5]])
    _, places = bind("roi_pool")(input, rois, 1.0, 2, 2)
    grad = torch.tensor([math.inf, 1, math.nan, 2]).view(1, 1, 2, 2)
    got = backend.native("roi_pool_backward")(
        backend(grad), backend(rois), backend(places), 1.0, [1, 1, 6, 6], False
    ).cpu()[0, 0]
    assert got[2, 2] == math.inf and got[5, 2].isnan()
    assert got[2, 5] == 1 and got[5, 5] == 2 and (got == 0).sum() == 32


@LAYOUT
def test_gradcheck_and_determinism(layout) -> None:
    input = map_for((2, 3, 6, 7)).to(memory_format=layout).requires_grad_()
    rois = rois_for(2, 5, 14)
    pool = lambda x: ops.roi_pool(x, rois, (2, 3), 0.5)  # noqa: E731
    assert torch.autograd.gradcheck(pool, input, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: pool(x).sin(), input)
    big = map_for((2, 40, 30, 30)).float().to(memory_format=layout).requires_grad_()
    rois, grad = rois_for(2, 200).float(), torch.randn(200, 40, 7, 7)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = ops.roi_pool(big, rois, 7, 0.7)
            results.append((out, *torch.autograd.grad(out, big, grad)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for r in results for a, b in zip(results[0], r, strict=True))


@pytest.mark.parametrize("grad", [False, True])
@LAYOUT
def test_opcheck(layout, grad: bool) -> None:
    input = map_for((2, 3, 6, 7)).float().to(memory_format=layout).requires_grad_(grad)
    rois = rois_for(2, 5, 14).float()
    opcheck(torch.ops.detcore.roi_pool, (input, rois, 0.5, 2, 3))
    places = torch.ops.detcore.roi_pool(input, rois, 0.5, 2, 3)[1]
    opcheck(
        torch.ops.detcore.roi_pool_backward,
        (
            torch.ones(5, 3, 2, 3, requires_grad=grad), rois, places, 0.5, [2, 3, 6, 7],
            layout == LAYOUTS[1],
        ),
    )  # fmt: skip


def backward(x: Tensor, r: Tensor, grad: Tensor, places: Tensor, size: list[int]) -> Tensor:
    return bind("roi_pool_backward")(grad, r, places, 1.0, size, False)  # type: ignore[no-any-return]


SIZE = [1, 2, 6, 6]
PLACES = torch.zeros(2, 2, 3, 3, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda x, r: ops.roi_pool(x[0], r, 3),
            "roi_pool: input must be [N, C, H, W], got [2, 6, 6]",
        ),
        (lambda x, r: ops.roi_pool(x, r[:, :4], 3), "roi_pool: boxes must be [N, 5], got [2, 4]"),
        (lambda x, r: ops.roi_pool(x, [r], 3), "roi_pool: boxes[0] must be [L, 4], got [2, 5]"),
        (
            lambda x, r: ops.roi_pool(x, [r[:, 1:]] * 2, 3),
            "roi_pool: boxes must list one tensor per image, 1 of them, got 2",
        ),
        (
            lambda x, r: ops.roi_pool(x, r, (3, 0)),
            "roi_pool: output_size must be positive, got 3 x 0",
        ),
        (
            lambda x, r: ops.roi_pool(x, r, 2**31),
            "roi_pool: output_size must be at most 1073741824, got 2147483648 x 2147483648",
        ),
        (
            lambda x, r: ops.roi_pool(x, r, (3, 3, 3)),
            "roi_pool: output_size must be one number or two, got (3, 3, 3)",
        ),
        (
            lambda x, r: ops.roi_pool(x, r, 3, -1.0),
            "roi_pool: spatial_scale must be positive, got -1",
        ),
        (
            lambda x, r: ops.roi_pool(x.long(), r, 3),
            "roi_pool: input must be float32, float64, float16 or bfloat16, got int64",
        ),
        (
            lambda x, r: ops.roi_pool(x[:, :, :1, :1].expand(1, 2, 2**15, 2**16), r, 3),
            "roi_pool: input must have fewer than 2147483648 pixels per channel, got 32768 x 65536",
        ),
        (
            lambda x, r: backward(x, r, x, PLACES, SIZE),
            "roi_pool_backward: grad must be [2, 2, 6, 6], got [1, 2, 6, 6]",
        ),
        (
            lambda x, r: backward(x, r, torch.ones(2, 2, 3, 3), PLACES[:1], SIZE),
            "roi_pool_backward: grad and argmax must have one shape, "
            "got [2, 2, 3, 3] and [1, 2, 3, 3]",
        ),
        (
            lambda x, r: backward(x, r, torch.ones(2, 2, 3, 3), PLACES, [1, 2]),
            "roi_pool_backward: map_size must be [N, C, H, W], got [1, 2]",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(torch.ones(1, 2, 6, 6), torch.tensor([[0.0, 0, 0, 4, 4]] * 2))
    assert str(raised.value) == words


def test_places_of_no_pixel_are_passed_over() -> None:
    """An argmax that the forward never gives must not write outside the gradient."""
    places = torch.tensor([-5, 36, 2**31 - 1, 7], dtype=torch.int32).view(1, 1, 2, 2)
    got = bind("roi_pool_backward")(
        torch.ones(1, 1, 2, 2), torch.tensor([[0.0, 0, 0, 5, 5]]), places, 1.0, [1, 1, 6, 6], False
    )
    assert got.sum() == 1 and got.flatten()[7] == 1
