"""The gradient of roi_align, whose kernels are roi_align_backward's."""

import math

import pytest
import torch

from detcore import ops, reference

from .conftest import FLOATS, Backend
from .test_roi_align import LAYOUTS, SHAPES, map_for, rois_for


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_equals_autograd_of_reference(
    backend: Backend, shape: tuple, ratio: int, aligned: bool, layout
) -> None:
    images, channels, height, width, n, output = shape
    input = map_for((images, channels, height, width)).requires_grad_()
    rois = rois_for(images, n)
    pooled = reference.roi_align(input, rois, output, 0.5, ratio, aligned)
    grad = map_for(tuple(pooled.shape), seed=1)
    (want,) = torch.autograd.grad(pooled, input, grad)
    got = backend.native("roi_align_backward")(
        backend(grad.to(memory_format=layout)), backend(rois), 0.5, *output, ratio, aligned,
        list(input.shape), layout == torch.channels_last,
    )  # fmt: skip
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9, check_stride=False)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_gradient_of_small_regions_wherever_they_end(
    backend: Backend, ratio: int, aligned: bool
) -> None:
    """A sample gives to the pixels on both of its sides, which may be of two blocks of a kernel.

    The regions end in steps of an eighth of a pixel, along each axis in turn.
    """
    input = map_for((1, 2, 19, 21)).requires_grad_()
    end = torch.arange(0, 20, 0.125, dtype=torch.float64)[:, None]
    steps, still = torch.cat((end - 1.5, end), 1), torch.tensor([[3.0, 6.0]]).expand(len(end), 2)
    across, down = (torch.stack(axes, 2).flatten(1) for axes in ((steps, still), (still, steps)))
    rois = torch.cat((torch.zeros(2 * len(end), 1), torch.cat((across, down))), 1)
    pooled = reference.roi_align(input, rois, (2, 2), 1.0, ratio, aligned)
    grad = map_for(tuple(pooled.shape), seed=1)
    (want,) = torch.autograd.grad(pooled, input, grad)
    got = backend.native("roi_align_backward")(
        backend(grad), backend(rois), 1.0, 2, 2, ratio, aligned, list(input.shape), False
    )
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradient_dtypes(backend: Backend, dtype: torch.dtype) -> None:
    rois, grad = rois_for(2, 9).float(), map_for((9, 8, 3, 3), seed=2)
    arguments = (0.5, 3, 3, 2, False, [2, 8, 12, 12], False)
    want = backend.native("roi_align_backward")(backend(grad), backend(rois.double()), *arguments)
    got = backend.native("roi_align_backward")(backend(grad.to(dtype)), backend(rois), *arguments)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "nhwc"])
def test_gradcheck_and_determinism(layout) -> None:
    input = map_for((2, 3, 6, 7)).to(memory_format=layout).requires_grad_()
    rois = rois_for(2, 5, 14)
    assert torch.autograd.gradcheck(lambda x: ops.roi_align(x, rois, (2, 3), 0.5, 2), input)
    big = map_for((2, 40, 30, 30)).float().to(memory_format=layout).requires_grad_()
    rois, grad = rois_for(2, 200).float(), torch.randn(200, 40, 7, 7)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += torch.autograd.grad(ops.roi_align(big, rois, 7, 0.7, 2), big, grad)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], r) for r in results[1:])


def test_infinity_and_nan_in_the_gradient_propagate(backend: Backend) -> None:
    grad = torch.zeros(1, 1, 2, 2)
    grad[0, 0, 0, 0], grad[0, 0, 1, 1] = math.inf, math.nan
    rois = torch.tensor([[0.0, 0, 0, 8, 8]])
    out = backend.native("roi_align_backward")(
        backend(grad), backend(rois), 1.0, 2, 2, 2, False, [1, 1, 12, 12], False
    )[0, 0].cpu()
    assert out[1, 1] == math.inf and out[5, 5].isnan() and (out[9:] == 0).all()
