import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference

from .conftest import FLOATS, Backend
from .peers import tv
from .test_roi_align import LAYOUTS, TOLERANCE, map_for

SCALES = [0.25, 0.125, 0.0625]


def pyramid(
    images: int, channels: int, size: int = 96, levels: int = 3, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Maps of an image of `size` x `size` + 8 pixels at scales 1/4, 1/8, ..."""
    shapes = [(images, channels, size >> k, (size + 8) >> k) for k in range(2, 2 + levels)]
    return [map_for(s, seed=i).to(dtype) for i, s in enumerate(shapes)]


def rois_for(images: int, n: int, seed: int = 0) -> Tensor:
    """[n, 5] float64 boxes of all levels: sides are log-uniform in 4 to 400 pixels."""
    g = torch.Generator().manual_seed(seed + n)
    image = torch.randint(0, images, (n, 1), generator=g)
    low = torch.rand(n, 2, generator=g, dtype=torch.float64) * 80 - 10
    side = 4 * 100 ** torch.rand(n, 2, generator=g, dtype=torch.float64)
    return torch.cat((image, low, low + side), dim=1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 2])
@pytest.mark.parametrize(
    ("images", "channels", "n", "output"),
    [
        (1, 1, 1, (1, 1)),
        (2, 3, 17, (7, 7)),
        (1, 17, 5, (2, 3)),
        (3, 4, 0, (7, 7)),
        (2, 0, 3, (2, 2)),
    ],
)
def test_equals_reference(
    backend: Backend, images: int, channels: int, n: int, output: tuple, ratio: int, aligned: bool,
    dtype: torch.dtype, layout,
) -> None:  # fmt: skip
    features, rois = pyramid(images, channels, dtype=dtype), rois_for(images, n)
    if dtype != torch.float64:
        rois = rois.float()
    # boxes are small, so a canonical size of 32 pixels spreads them over the levels
    arguments = (output, SCALES, ratio, 32, 3)
    want = reference.multiscale_roi_align(features, rois, *arguments, aligned)
    got = ops.multiscale_roi_align(
        backend([f.to(memory_format=layout) for f in features]), backend(rois), *arguments,
        aligned=aligned,
    )  # fmt: skip
    assert got.dtype == dtype and got.shape == (n, channels, *output)
    torch.testing.assert_close(
        got.cpu(), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], check_stride=False
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("canonical_scale", "canonical_level"), [(224, 4), (224, 5), (1, 1), (100, 3), (333, 6)]
)
def test_levels_equal_torchvision(
    backend: Backend, canonical_scale: int, canonical_level: int, dtype: torch.dtype
) -> None:
    """Random boxes, exact level boundaries, and the floats next to them."""
    g = torch.Generator().manual_seed(canonical_scale)
    sides = [2 ** (torch.rand(2000, generator=g, dtype=torch.float64) * 14 - 2)]
    for k in range(1, 9):
        step = canonical_scale * 2.0 ** (k - canonical_level)
        sides += [step * (1 + torch.arange(-200, 200) * 2.0**-24), torch.tensor([step])]
    width = torch.cat(sides).to(dtype)
    height = torch.cat([s.flip(0) for s in sides]).to(dtype)
    # centred on the only pixel of maps whose value is the index of the level
    boxes = torch.stack((-width, -height, width, height), dim=1) / 2
    features = [torch.full((1, 1, 1, 1), float(level), dtype=dtype) for level in range(8)]
    rois = torch.cat((boxes.new_zeros(len(boxes), 1), boxes), dim=1)
    scales = [2.0**-k for k in range(1, 9)]
    got = ops.multiscale_roi_align(
        backend(features), backend(rois), 1, scales, 1, canonical_scale, canonical_level
    )
    want = tv.poolers.LevelMapper(1, 8, canonical_scale, canonical_level)([boxes])
    assert torch.equal(got.flatten().long().cpu(), want)
    assert torch.equal(
        reference.pyramid_level(boxes, scales, canonical_scale, canonical_level), want
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
def test_equals_torchvision(backend: Backend, layout) -> None:
    features = [f.float().to(memory_format=layout) for f in pyramid(2, 5, 256, 4)]
    boxes = [rois_for(1, 40, seed)[:, 1:].float() for seed in (1, 2)]
    boxes[0][0] = torch.tensor([0.0, 0, 224, 224])
    pooler = tv.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    named = {str(i): f for i, f in enumerate(features)}
    want = pooler(named, boxes, [(256, 264)] * 2)
    scales = [0.25, 0.125, 0.0625, 0.03125]
    got = ops.multiscale_roi_align(backend(features), backend(boxes), 7, scales, 2)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-5, check_stride=False)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("ratio", [-1, 2])
def test_gradient_equals_autograd_of_reference(
    backend: Backend, ratio: int, dtype: torch.dtype, layout
) -> None:
    features = [f.requires_grad_() for f in pyramid(2, 5)]
    rois = rois_for(2, 11)
    if dtype != torch.float64:
        rois = rois.float().double()
    pooled = reference.multiscale_roi_align(features, rois, (3, 2), SCALES, ratio, 32, 3)
    grad = map_for(tuple(pooled.shape), seed=9).to(dtype).double()
    want = torch.autograd.grad(pooled, features, grad)
    got = backend.native("multiscale_roi_align_backward")(
        backend(grad.to(dtype, memory_format=layout)),
        backend(rois.to(dtype if dtype == torch.float64 else torch.float32)), SCALES, 3, 2, ratio,
        False, 32.0, 3, 2, [size for f in features for size in f.shape[-2:]],
        layout == torch.channels_last,
    )  # fmt: skip
    tolerance = 1e-9 if dtype == torch.float64 else 3e-2
    for g, w in zip(got, want, strict=True):
        assert g.dtype == dtype and g.is_contiguous(memory_format=layout)
        torch.testing.assert_close(
            g.cpu().double(), w, rtol=tolerance, atol=tolerance, check_stride=False
        )


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
def test_gradcheck_and_determinism(layout) -> None:
    small = [f.to(memory_format=layout).requires_grad_() for f in pyramid(2, 2, 32, 2)]
    rois = rois_for(2, 4)
    assert torch.autograd.gradcheck(
        lambda *f: ops.multiscale_roi_align(f, rois, 2, SCALES[:2], 2, 32, 3), small
    )
    features = [f.float().requires_grad_() for f in pyramid(2, 40, 256)]
    rois, results = rois_for(2, 300).float(), []
    grad, before = torch.randn(300, 40, 7, 7), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = ops.multiscale_roi_align(features, rois, 7, SCALES, 2, 64, 3)
            results.append([out.detach(), *torch.autograd.grad(out, features, grad)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_one_level_is_roi_align(backend: Backend) -> None:
    (feature,), rois = pyramid(2, 5, levels=1), rois_for(2, 9)
    got = ops.multiscale_roi_align([backend(feature)], backend(rois), 3, [0.25], 2)
    assert torch.equal(got, ops.roi_align(backend(feature), backend(rois), 3, 0.25, 2))


def test_a_missing_level_gives_its_boxes_to_the_finer_one(backend: Backend) -> None:
    features, rois = [f.float() for f in pyramid(1, 3)[::2]], rois_for(1, 40).float()
    arguments = ((3, 3), [0.25, 0.0625], 2, 32, 3)
    want = reference.multiscale_roi_align(features, rois, *arguments)
    got = ops.multiscale_roi_align(backend(features), backend(rois), *arguments)
    assert torch.allclose(got.cpu(), want, atol=1e-5)
    side = (rois[:, 3:] - rois[:, 1:3]).prod(1).sqrt()
    coarse = ops.roi_align(features[1], rois, (3, 3), 0.0625, 2)
    assert torch.allclose(want[side >= 64], coarse[side >= 64], atol=1e-5)


def test_boxes_that_are_not_finite_or_inverted(backend: Backend) -> None:
    features = [torch.ones_like(f) for f in pyramid(1, 2, dtype=torch.float32)]
    bad = [math.nan, math.inf, -math.inf]
    rois = torch.tensor(
        [[0.0, *([1.0] * k), b, *([50.0] * (3 - k))] for b in bad for k in range(4)]
    )
    got = ops.multiscale_roi_align(backend(features), backend(rois), 3, SCALES, 2)
    assert (got == 0).all()
    inverted = torch.tensor([[0.0, 40, 10, 10, 90]])
    got = ops.multiscale_roi_align(backend(features), backend(inverted), 3, SCALES, 2)
    want = ops.roi_align(backend(features[0]), backend(inverted), 3, SCALES[0], 2)
    assert torch.equal(got, want)


def test_layouts_and_mixtures(backend: Backend) -> None:
    features, rois = pyramid(2, 4, dtype=torch.float32), rois_for(2, 9).float()
    want = ops.multiscale_roi_align(backend(features), backend(rois), 3, SCALES, 2, 32, 3)
    last = [f.to(memory_format=torch.channels_last) for f in features]
    got = ops.multiscale_roi_align(backend(last), backend(rois), 3, SCALES, 2, 32, 3)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5, check_stride=False)
    mixed = [last[0], features[1], features[2].transpose(2, 3).contiguous().transpose(2, 3)]
    got = ops.multiscale_roi_align(backend(mixed), backend(rois), 3, SCALES, 2, 32, 3)
    assert got.is_contiguous() and torch.equal(got, want)


def test_many_regions_and_few_planes(backend: Backend) -> None:
    """More regions than fit one chunk, sorted and split in parts."""
    n = 300 if backend.simulated else 5000
    features, rois = pyramid(2, 3, dtype=torch.float32), rois_for(2, n).float()
    for layout in LAYOUTS:
        maps = [f.to(memory_format=layout) for f in features]
        got = ops.multiscale_roi_align(backend(maps), backend(rois), 2, SCALES, 2, 32, 3)
        some = torch.arange(0, n, 97)
        want = reference.multiscale_roi_align(maps, rois[some], (2, 2), SCALES, 2, 32, 3)
        torch.testing.assert_close(got.cpu()[some], want, rtol=1e-5, atol=1e-5, check_stride=False)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
def test_opcheck(layout, grad: bool) -> None:
    features = [
        f.to(memory_format=layout).requires_grad_(grad) for f in pyramid(2, 3, 32, 2, torch.float32)
    ]
    rois = rois_for(2, 5).float()
    settings = (rois, SCALES[:2], 2, 3, 2, False, 32.0, 3)
    opcheck(torch.ops.detcore.multiscale_roi_align, (features, *settings))
    sizes = [size for f in features for size in f.shape[-2:]]
    opcheck(
        torch.ops.detcore.multiscale_roi_align_backward,
        (torch.ones(5, 3, 2, 3), *settings, 2, sizes, layout == LAYOUTS[1]),
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda f, r: ops.multiscale_roi_align([], r, 3, []),
            "features must be 1 to 8 maps, got 0",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f * 5, r, 3, [1.0] * 10),
            "features must be 1 to 8 maps, got 10",
        ),
        (
            lambda f, r: ops.multiscale_roi_align([f[0], f[1][0]], r, 3, SCALES[:2]),
            "features must be [N, C, H, W], got [2, 12, 13]",
        ),
        (
            lambda f, r: ops.multiscale_roi_align([f[0], f[1][:, :1]], r, 3, SCALES[:2]),
            "features must have one batch and channels, got [1, 2, 24, 26] and [1, 1, 12, 13]",
        ),
        (
            lambda f, r: ops.multiscale_roi_align([f[0], f[1].double()], r, 3, SCALES[:2]),
            "features and features must have one dtype, got float32 and float64",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, r, 3, SCALES),
            "scales must be one per feature, 2 of them, got 3",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, r, 3, [0.25, 0.2]),
            "scales must fall by half or more from feature to feature, got 0.25 before 0.2",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, r, 3, [0.25, math.inf]),
            "scales must be finite, got inf",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, r, 3, SCALES[:2], 2, 0),
            "canonical_scale must be positive, got 0",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, r[:, 1:], 3, SCALES[:2]),
            "boxes must be [N, 5], got [2, 4]",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, [r[:, 1:]] * 2, 3, SCALES[:2]),
            "boxes must list one tensor per image, 1 of them, got 2",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, r, (3, 3, 3), SCALES[:2]),
            "output_size must be one number or two, got (3, 3, 3)",
        ),
        (
            lambda f, r: ops.multiscale_roi_align(f, r + 1, 3, SCALES[:2]),
            "boxes must name an image in [0, 1), got 1 at box 0",
        ),
    ],
)  # fmt: skip
def test_errors(call, words: str) -> None:
    features = pyramid(1, 2, 96, 2, torch.float32)
    with pytest.raises(ValueError) as raised:
        call(features, torch.tensor([[0.0, 0, 0, 4, 4]] * 2))
    assert str(raised.value) == "multiscale_roi_align: " + words
