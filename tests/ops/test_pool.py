import pytest
import torch

from detcore import ops

from .conftest import random_boxes
from .peers import tv


def test_roi_align_module() -> None:
    input, boxes = torch.randn(1, 3, 20, 20), [random_boxes(6).float()]
    for aligned in (False, True):
        ours, theirs = (m.RoIAlign((3, 4), 0.5, 2, aligned)(input, boxes) for m in (ops, tv))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_roi_pool_module() -> None:
    input, boxes = torch.randn(1, 3, 20, 20), [random_boxes(6).float()]
    ours, theirs = (m.RoIPool((3, 4), 0.5) for m in (ops, tv))
    assert torch.equal(ours(input, boxes), theirs(input, boxes)) and repr(ours) == repr(theirs)


@pytest.mark.parametrize("names", [["0"], ["0", "1", "2"], ["0", "1", "2", "3"]])
def test_multiscale_equals_torchvision(names: list[str]) -> None:
    x = {str(i): torch.randn(2, 4, 64 >> i, 80 >> i, requires_grad=True) for i in range(4)}
    x["pool"] = torch.randn(2, 4, 4, 5)
    sizes = [(256, 320), (250, 300)]
    boxes = [random_boxes(30, 150, 150, s).float() for s in (1, 2)]
    boxes[0][0] = torch.tensor([0.0, 0, 224, 224])  # exactly the canonical size
    ours = ops.MultiScaleRoIAlign(names, 7, 2)(x, boxes, sizes)
    theirs = tv.MultiScaleRoIAlign(names, 7, 2)(x, boxes, sizes)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    ours.sum().backward()
    assert all(x[n].grad is not None for n in names)


def test_multiscale_of_half_boxes() -> None:
    """Areas overflow float16, and image indices are not exact in bfloat16."""
    x = {str(i): torch.randn(300, 2, 32 >> i, 32 >> i) for i in range(3)}
    sizes = [(512, 512)] * 300
    whole = [torch.tensor([[0.0, 0, 300, 300]])] * 300
    want = ops.MultiScaleRoIAlign(["0", "1", "2"], 2, 2)(x, whole, sizes)
    for dtype in (torch.float16, torch.bfloat16):
        half = [b.to(dtype) for b in whole]
        got = ops.MultiScaleRoIAlign(["0", "1", "2"], 2, 2)(x, half, sizes)
        torch.testing.assert_close(got, want, rtol=0.1, atol=0.1)


def test_multiscale_without_boxes_and_without_features() -> None:
    pool = ops.MultiScaleRoIAlign(["0", "1"], 3, 2)
    x = {"0": torch.randn(1, 4, 16, 16), "1": torch.randn(1, 4, 8, 8)}
    assert pool(x, [torch.zeros(0, 4)], [(64, 64)]).shape == (0, 4, 3, 3)
    with pytest.raises(ValueError, match="x must hold one of"):
        pool({"other": x["0"]}, [torch.zeros(0, 4)], [(64, 64)])


@pytest.mark.parametrize("strides", [(32, 32), (4, 16), (4, 8, 8), (8, 16, 64)])
def test_multiscale_of_other_strides_follows_torchvisions_rule(strides) -> None:
    x = {
        str(i): torch.randn(2, 3, 256 // stride, 320 // stride, requires_grad=True)
        for i, stride in enumerate(strides)
    }
    names, sizes = list(x), [(256, 320), (250, 300)]
    boxes = [random_boxes(60, 150, 200, s).float() for s in (1, 2)]
    boxes[0][:2] = torch.tensor([[0.0, 0, 1000, 1000], [0.0, 0, 310, 250]])  # of high levels
    pool, tv_pool = (m.MultiScaleRoIAlign(names, 7, 2) for m in (ops, tv))
    ours, theirs = pool(x, boxes, sizes), tv_pool(x, boxes, sizes)
    assert pool.scales == tv_pool.scales and pool.map_levels is not None
    assert torch.equal(pool.map_levels(boxes), tv_pool.map_levels(boxes))
    # torchvision leaves zeros where a box's level lies beyond the maps; ours takes the last map
    levels = tv_pool.map_levels(boxes)
    beyond = levels >= len(strides)
    assert not beyond.all() and beyond.any() == (strides[-1] // strides[0] >= 2 ** len(strides))
    assert (theirs[beyond] == 0).all()
    torch.testing.assert_close(ours[~beyond], theirs[~beyond], rtol=1e-5, atol=1e-5)
    last = ops.roi_align(x[names[-1]], boxes, 7, pool.scales[-1], 2)
    torch.testing.assert_close(ours[beyond], last[beyond])
    ours.sum().backward()
    assert x[names[0]].grad is not None


def test_multiscale_of_maps_of_unlike_dtypes_and_its_text() -> None:
    x = {"0": torch.randn(1, 2, 16, 16).bfloat16(), "1": torch.randn(1, 2, 8, 8)}
    pool = ops.MultiScaleRoIAlign(["0", "1"], 3, 2)
    assert pool.scales is None
    assert pool(x, [torch.tensor([[0.0, 0, 30, 30]])], [(64, 64)]).dtype == torch.bfloat16
    assert repr(pool) == repr(tv.MultiScaleRoIAlign(["0", "1"], 3, 2))
