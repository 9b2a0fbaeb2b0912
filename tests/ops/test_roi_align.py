import ctypes
import math
import mmap

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops._route import bind

from .conftest import FLOATS, Backend
from .peers import tv

# images, channels, height, width, regions, output
SHAPES = [
    (1, 1, 1, 1, 1, (1, 1)),
    (2, 3, 13, 17, 5, (7, 7)),
    (1, 8, 20, 9, 9, (2, 3)),
    (3, 5, 8, 64, 33, (3, 5)),
    (1, 64, 11, 11, 3, (14, 14)),
    (2, 130, 7, 7, 4, (3, 3)),
    (2, 4, 16, 16, 0, (7, 7)),
    (1, 0, 16, 16, 3, (7, 7)),
]
LAYOUTS = (torch.contiguous_format, torch.channels_last)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def rois_for(images: int, n: int, size: int = 40, seed: int = 0) -> Tensor:
    """[n, 5] float64 boxes: inside, across the border, outside, tiny, inverted."""
    g = torch.Generator().manual_seed(seed + n)
    image = torch.randint(0, images, (n, 1), generator=g)
    low = torch.rand(n, 2, generator=g, dtype=torch.float64) * 2 * size - size / 2
    side = torch.rand(n, 2, generator=g, dtype=torch.float64) * 1.5 * size - size / 10
    return torch.cat((image, low, low + side), dim=1)


def map_for(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_reference(
    backend: Backend, shape: tuple, ratio: int, aligned: bool, dtype: torch.dtype, layout
) -> None:
    images, channels, height, width, n, output = shape
    if backend.simulated and channels > 8 and ratio == 5:
        pytest.skip("shown by the smaller shapes; here the simulator takes long")
    input = map_for((images, channels, height, width)).to(dtype)
    rois = rois_for(images, n)
    if dtype != torch.float64:
        rois = rois.float()
    want = reference.roi_align(input, rois, output, 0.5, ratio, aligned)
    got = ops.roi_align(
        backend(input.to(memory_format=layout)), backend(rois), output, 0.5, ratio, aligned
    )
    assert got.dtype == dtype and got.shape == (n, channels, *output)
    torch.testing.assert_close(
        got.cpu(), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], check_stride=False
    )


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 0, 2, 3])
def test_equals_torchvision(backend: Backend, ratio: int, aligned: bool) -> None:
    input, rois = map_for((2, 6, 30, 25)).float(), rois_for(2, 60, 60).float()
    want = tv.roi_align(input, rois, (7, 5), 0.6, ratio, aligned)
    got = ops.roi_align(backend(input), backend(rois), (7, 5), 0.6, ratio, aligned)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-5)


def test_list_of_boxes_equals_rois() -> None:
    input, rois = map_for((3, 4, 20, 20)).float(), rois_for(3, 12).float()
    rois = rois[rois[:, 0].sort(stable=True).indices]
    boxes = [rois[rois[:, 0] == i, 1:] for i in range(3)]
    assert torch.equal(ops.roi_align(input, boxes, 3), ops.roi_align(input, rois, 3))
    assert ops.roi_align(input, [torch.zeros(0, 4)] * 3, 3).shape == (0, 4, 3, 3)
    # a list of half boxes must keep the image index: bfloat16 has no 257
    many = torch.randn(300, 1, 4, 4)
    half = [torch.tensor([[0.0, 0, 4, 4]], dtype=torch.bfloat16)] * 300
    full = [b.float() for b in half]
    assert torch.equal(ops.roi_align(many, half, 2), ops.roi_align(many, full, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_features_take_float_boxes(backend: Backend, dtype: torch.dtype) -> None:
    input, rois = map_for((2, 8, 20, 20)).to(dtype), rois_for(2, 10).float()
    got = ops.roi_align(backend(input), backend(rois), 7, 0.5, 2)
    want = ops.roi_align(input.float(), rois, 7, 0.5, 2)
    assert got.dtype == dtype
    torch.testing.assert_close(got.cpu().float(), want, rtol=1e-2, atol=1e-2)


def test_layout_is_kept_without_a_copy(backend: Backend) -> None:
    input = backend(map_for((2, 8, 9, 9)).float().to(memory_format=torch.channels_last))
    rois = backend(rois_for(2, 5).float())
    out = ops.roi_align(input, rois, 3)
    assert out.is_contiguous(memory_format=torch.channels_last)
    grad = backend.native("roi_align_backward")(
        torch.ones_like(out), rois, 1.0, 3, 3, -1, False, list(input.shape), True
    )
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_views_of_maps(backend: Backend) -> None:
    """Maps in no dense layout: a slice, an expanded map, a transposed one."""
    whole, rois = map_for((2, 6, 20, 22)).float(), rois_for(2, 7).float()
    for view in (
        whole[:, ::2],
        whole[:, :, 3:15, 2:],
        whole.transpose(2, 3),
        whole[:1].expand(2, -1, -1, -1),
    ):
        got = ops.roi_align(backend(view), backend(rois), 4, 0.5, 2)
        want = ops.roi_align(backend(view.contiguous()), backend(rois), 4, 0.5, 2)
        assert torch.equal(got, want)


def test_infinity_and_nan_in_the_map_propagate(backend: Backend) -> None:
    input = torch.zeros(1, 1, 12, 12)
    input[0, 0, 2, 2], input[0, 0, 9, 9] = math.inf, math.nan
    rois = torch.tensor([[0.0, 0, 0, 11, 11], [0.0, 4, 4, 7, 7]])
    got = ops.roi_align(backend(input), backend(rois), 4, 1.0, 2).cpu()
    want = tv.roi_align(input, rois, 4, 1.0, 2)
    torch.testing.assert_close(got, want, equal_nan=True)
    assert got[0].isinf().any() and got[0].isnan().any() and got[1].isfinite().all()


@pytest.mark.slow
def test_a_map_wider_than_32_bits() -> None:
    # float32 boxes have steps of 256 there, so set ones in a wide area around the region
    input = torch.zeros(1, 1, 1, 2**31 + 8192, dtype=torch.float16)
    input[..., 2**31 - 4096 :] = 1
    at = 2.0**31 + 512
    out = ops.roi_align(input, torch.tensor([[0.0, at, 0, at + 1024, 1]]), (1, 2), 1.0, 2)
    assert out.flatten().tolist() == [1, 1]


@pytest.mark.parametrize("ratio", [3, 2**30])
def test_regions_outside_pool_to_zeros_whatever_the_ratio(backend: Backend, ratio: int) -> None:
    rois = torch.tensor([[0.0, 1e6, 1e6, 2e6, 2e6], [0.0, -2e6, -2e6, -1e6, -1e6]])
    out = ops.roi_align(backend(torch.ones(1, 2, 6, 6)), backend(rois), 3, 1.0, ratio)
    assert (out == 0).all()


@pytest.mark.parametrize("ratio", [-1, 2])
def test_regions_that_are_not_finite_pool_to_zeros(backend: Backend, ratio: int) -> None:
    bad = [math.nan, math.inf, -math.inf, 3e38]
    rois = torch.tensor(
        [[0.0, *([1.0] * k), b, *([5.0] * (3 - k))] for b in bad[:3] for k in range(4)]
    )
    input = torch.ones(1, 2, 6, 6)
    out = ops.roi_align(backend(input), backend(rois), 3, 1.0, ratio)
    assert (out == 0).all()
    grad = backend.native("roi_align_backward")(
        torch.ones_like(out), backend(rois), 1.0, 3, 3, ratio, False, [1, 2, 6, 6], False
    )
    assert (grad == 0).all()
    # finite but absurd boxes must end soon
    absurd = torch.tensor([[0.0, -1e9, -1e9, 1e9, 1e9], [0.0, 0, 0, bad[3], bad[3]]])
    assert ops.roi_align(backend(input), backend(absurd), 3, 1.0, ratio).shape == (2, 2, 3, 3)


@pytest.mark.parametrize("image", [-1.0, 2.0, 1e9, math.nan])
def test_image_out_of_range(image: float) -> None:
    rois = torch.tensor([[0.0, 0, 0, 4, 4], [image, 0, 0, 4, 4]])
    with pytest.raises(
        ValueError, match=r"roi_align: boxes must name an image in \[0, 2\), got .* at box 1"
    ):
        ops.roi_align(torch.ones(2, 1, 6, 6), rois, 3)


def test_image_out_of_range_pools_to_zeros_on_cuda(backend: Backend) -> None:
    if backend.name.startswith("cpu"):
        pytest.skip("raises on the CPU")
    rois = backend(torch.tensor([[i, 0.0, 0, 4, 4] for i in (-1, 2, 1e9, math.nan)]))
    out = ops.roi_align(backend(torch.ones(2, 1, 6, 6)), rois, 3)
    assert (out == 0).all()
    grad = backend.native("roi_align_backward")(
        torch.ones_like(out), rois, 1.0, 3, 3, -1, False, [2, 1, 6, 6], False
    )
    assert (grad == 0).all()


def test_outputs_and_maps_beyond_the_short_lists(backend: Backend) -> None:
    """More taps, bins or pixels than the CPU kernel's lists can have."""
    input = map_for((1, 2, 3, 1700)).float()
    rois = torch.tensor([[0.0, 0, 0, 1700, 3], [0.0, 100, 0, 1650, 2]])
    cases = [((1, 300), 2), ((2, 3), -1), ((3, 400), 3)]
    if backend.simulated:
        cases = cases[:1]
    for layout in LAYOUTS:
        for output, ratio in cases:
            want = tv.roi_align(input, rois, output, 1.0, ratio)
            got = ops.roi_align(
                backend(input.to(memory_format=layout)), backend(rois), output, 1.0, ratio
            )
            torch.testing.assert_close(got.cpu(), want, rtol=1e-4, atol=1e-4, check_stride=False)
            if not backend.simulated:
                x = input.clone().requires_grad_()
                grad = torch.randn_like(want)
                (want_grad,) = torch.autograd.grad(
                    tv.roi_align(x, rois, output, 1.0, ratio), x, grad
                )
                got_grad = backend.native("roi_align_backward")(
                    backend(grad), backend(rois), 1.0, *output, ratio, False, [1, 2, 3, 1700],
                    layout == torch.channels_last,
                )  # fmt: skip
                torch.testing.assert_close(
                    got_grad.cpu(), want_grad, rtol=1e-4, atol=1e-4, check_stride=False
                )


def guarded(t: Tensor, layout: torch.memory_format) -> Tensor:
    """A copy that ends directly before a page that must not be touched."""
    last = layout == torch.channels_last
    flat = (t.permute(0, 2, 3, 1) if last else t).contiguous().flatten()
    size = flat.numel() * flat.element_size()
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    none = ctypes.c_int(0)
    assert protect(ctypes.c_void_p(address + pages), ctypes.c_size_t(mmap.PAGESIZE), none) == 0
    copy = torch.frombuffer(memory, dtype=t.dtype, count=flat.numel(), offset=pages - size)
    copy.copy_(flat)
    n, c, h, w = t.shape
    return copy.view(n, h, w, c).permute(0, 3, 1, 2) if last else copy.view(n, c, h, w)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
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
    got = ops.roi_align(guarded(input, layout), rois, 3, 0.5, 2)
    want = ops.roi_align(input.to(memory_format=layout), rois, 3, 0.5, 2)
    assert torch.equal(got, want)
    back = backend.native("roi_align_backward")
    settings = (rois, 0.5, 3, 3, 2, False, list(input.shape), layout == torch.channels_last)
    assert torch.equal(back(guarded(got, layout), *settings), back(want, *settings))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("images", [1, 2, 3])
def test_tiny_images_are_not_read_past_the_last(
    backend: Backend, images: int, dtype: torch.dtype
) -> None:
    """A vector is longer than all following images."""
    if not backend.name.startswith("cpu"):
        pytest.skip("the CPU kernels' own care")
    input = map_for((images, 1, 2, 3)).to(dtype)
    rois = torch.tensor([[i, 1.0, 1, 3, 2] for i in range(images)]).double()
    rois = rois if dtype == torch.float64 else rois.float()
    got = ops.roi_align(guarded(input, torch.contiguous_format), rois, 2, 1.0, 2)
    assert torch.equal(got, ops.roi_align(input, rois, 2, 1.0, 2))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
def test_opcheck(layout, grad: bool) -> None:
    input = map_for((2, 3, 6, 7)).float().to(memory_format=layout).requires_grad_(grad)
    rois = rois_for(2, 5, 14).float()
    opcheck(torch.ops.detcore.roi_align, (input, rois, 0.5, 2, 3, 2, False))
    # one image of a batch: the stride of a dimension of size 1 does not show the layout
    one = torch.randn(3, 3, 6, 7).to(memory_format=layout)[1:2].requires_grad_(grad)
    opcheck(torch.ops.detcore.roi_align, (one, rois * 0, 0.5, 2, 3, 2, False))
    opcheck(
        torch.ops.detcore.roi_align_backward,
        (torch.ones(5, 3, 2, 3), rois, 0.5, 2, 3, 2, False, [2, 3, 6, 7], layout == LAYOUTS[1]),
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda x, r: ops.roi_align(x[0], r, 3),
            "roi_align: input must be [N, C, H, W], got [2, 6, 6]",
        ),
        (lambda x, r: ops.roi_align(x, r[:, :4], 3), "roi_align: boxes must be [N, 5], got [2, 4]"),
        (lambda x, r: ops.roi_align(x, [r], 3), "roi_align: boxes[0] must be [L, 4], got [2, 5]"),
        (
            lambda x, r: ops.roi_align(x, [r[:, 1:]] * 2, 3),
            "roi_align: boxes must list one tensor per image, 1 of them, got 2",
        ),
        (
            lambda x, r: bind("roi_align_backward")(x, r, 1.0, 3, 3, 2, False, [1, 2, 6, 6], False),
            "roi_align_backward: grad must be [2, 2, 3, 3], got [1, 2, 6, 6]",
        ),
        (
            lambda x, r: bind("roi_align_backward")(x, r, 1.0, 3, 3, 2, False, [1, 2], False),
            "roi_align_backward: map_size must be [N, C, H, W], got [1, 2]",
        ),
        (
            lambda x, r: ops.roi_align(x, r, 3, 1.0, 2**32 + 2),
            "roi_align: output_size and sampling_ratio must be at most 1073741824, "
            "got 3 x 3 and 4294967298",
        ),
        (
            lambda x, r: ops.roi_align(x, r, (3, 0)),
            "roi_align: output_size must be positive, got 3 x 0",
        ),
        (
            lambda x, r: ops.roi_align(x, r, (3, 3, 3)),
            "roi_align: output_size must be one number or two, got (3, 3, 3)",
        ),
        (
            lambda x, r: ops.roi_align(x, r, 3, -1.0),
            "roi_align: spatial_scale must be positive, got -1",
        ),
        (
            lambda x, r: ops.roi_align(x[:, :, :0], r, 3),
            "roi_align: input must not be empty where there are boxes, got [1, 2, 0, 6]",
        ),
        (
            lambda x, r: ops.roi_align(x.long(), r, 3),
            "roi_align: input must be float32, float64, float16 or bfloat16, got int64",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(torch.ones(1, 2, 6, 6), torch.tensor([[0.0, 0, 0, 4, 4]] * 2))
    assert str(raised.value) == words
