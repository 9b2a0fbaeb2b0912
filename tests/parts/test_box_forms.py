import math

import pytest
import torch

from detcore.ops import box_convert
from detcore.parts.box_forms import (
    centres,
    enclosing,
    format_of,
    longer_side_first,
    shared_areas,
    shifted,
    stretched,
)

UPRIGHT = torch.tensor([[10.0, 20, 30, 60]])
TURNED = torch.tensor([[20.0, 40, 30, 10, 90]])


def test_each_form_by_hand():
    assert (format_of(UPRIGHT), format_of(TURNED)) == ("xyxy", "cxcywhr")
    assert centres(UPRIGHT).tolist() == centres(TURNED).tolist() == [[20, 40]]
    assert shifted(UPRIGHT, 3, -4).tolist() == [[13, 16, 33, 56]]
    assert shifted(TURNED, 3, -4).tolist() == [[23, 36, 30, 10, 90]]
    assert enclosing(UPRIGHT) is UPRIGHT
    # a quarter turn: 10 wide, 30 high
    torch.testing.assert_close(enclosing(TURNED), torch.tensor([[15.0, 25, 25, 55]]))
    # at 45 degrees each side reaches (30 + 10) / 2 / sqrt(2) from the middle
    reach = 20 / math.sqrt(2)
    wanted = torch.tensor([[20 - reach, 40 - reach, 20 + reach, 40 + reach]])
    torch.testing.assert_close(enclosing(torch.tensor([[20.0, 40, 30, 10, 45]])), wanted)
    for form in (UPRIGHT, TURNED):
        none = form[:0]
        assert enclosing(none).shape == (0, 4)
        assert centres(none).shape == (0, 2)
        assert shifted(none, 1, 1).shape == none.shape


def test_shared_areas_by_hand():
    others = torch.tensor([[20.0, 40, 50, 100], [100, 0, 110, 5]])
    torch.testing.assert_close(shared_areas(UPRIGHT, others), torch.tensor([[200.0, 0]]))
    # 10 wide and 30 high, of which the lower half lies in the other
    others = torch.tensor([[20.0, 60, 40, 40, 0]])
    torch.testing.assert_close(shared_areas(TURNED, others), torch.tensor([[150.0]]))
    assert shared_areas(TURNED[:0], others).shape == (0, 1)


def test_stretched_by_hand():
    ratios = torch.tensor([2.0, 3, 2, 3])
    assert stretched(UPRIGHT, ratios).tolist() == [[20, 60, 60, 180]]
    # its width points up, so it grows threefold; its height across, twofold
    torch.testing.assert_close(
        stretched(TURNED, ratios), torch.tensor([[40.0, 120, 90, 20, 90]]), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_stretching_alike_both_ways_is_exact(ratio):
    generator = torch.Generator().manual_seed(1)
    boxes = torch.rand(50, 5, generator=generator, dtype=torch.float64) * 100
    boxes[:, 4] = boxes[:, 4] * 3.6 - 180
    grown = stretched(boxes, torch.full((4,), ratio, dtype=torch.float64))
    before, after = (box_convert(b, "cxcywhr", "xyxyxyxy") for b in (boxes, grown))
    torch.testing.assert_close(after, ratio * before)


def test_a_little_stretched_box_is_near_the_parallelogram():
    """Images are cut to whole pixels, so their two ratios differ by less than a percent."""
    boxes = torch.tensor([[50.0, 40, 60, 12, a] for a in range(-90, 91, 15)], dtype=torch.float64)
    ratios = torch.tensor([1.005, 0.998, 1.005, 0.998], dtype=torch.float64)
    exact = box_convert(boxes, "cxcywhr", "xyxyxyxy").unflatten(1, (4, 2)) * ratios[:2]
    found = box_convert(stretched(boxes, ratios), "cxcywhr", "xyxyxyxy").unflatten(1, (4, 2))
    assert (found - exact).norm(dim=2).max() < 0.1
    areas = stretched(boxes, ratios)[:, 2:4].prod(1)
    torch.testing.assert_close(areas, boxes[:, 2:4].prod(1) * 1.005 * 0.998)


def test_the_longer_side_is_named_first():
    boxes = torch.tensor([[5.0, 6, 10, 30, 80], [5, 6, 30, 10, 350], [5, 6, 10, 10, 90]])
    named = longer_side_first(boxes)
    # of a square every quarter turn is the same
    wanted = torch.tensor([[5.0, 6, 30, 10, -10], [5, 6, 30, 10, -10], [5, 6, 10, 10, 0]])
    assert torch.equal(named, wanted)
    assert torch.equal(longer_side_first(boxes[:, :4]), boxes[:, :4])
