import pytest
import torch

from detcore.ops import multiscale_roi_align
from detcore.parts.rotated_pooling import multiscale_roi_align_rotated
from detcore.reference import roi_align_rotated
from detcore.reference.multiscale_roi_align import pyramid_level

SCALES = [1 / 8, 1 / 16, 1 / 32]


@pytest.fixture
def maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 5, 64 // k, 80 // k, generator=generator) for k in (1, 2, 4)]


@pytest.fixture
def rois() -> torch.Tensor:
    """Regions of all three levels, in both images."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.rand(40, 6, generator=generator)
    rows = rows * torch.tensor([1, 600, 500, 900, 900, 360]) + torch.tensor([0, 0, 0, 9, 9, -180])
    rows[:, 0] = torch.arange(40) % 2
    return rows


def upright(rois: torch.Tensor) -> torch.Tensor:
    half = rois[:, 3:5] / 2
    return torch.cat((rois[:, :1], rois[:, 1:3] - half, rois[:, 1:3] + half), dim=1)


def test_at_no_angle_it_is_the_upright_pooling(
    maps: list[torch.Tensor], rois: torch.Tensor
) -> None:
    """The same levels and the same samples."""
    rois[:, 5] = 0
    found = multiscale_roi_align_rotated(maps, rois, 7, SCALES, 2)
    torch.testing.assert_close(
        found, multiscale_roi_align(maps, upright(rois), 7, SCALES, 2), rtol=1e-3, atol=1e-3
    )


def test_each_region_is_pooled_from_its_own_level(
    maps: list[torch.Tensor], rois: torch.Tensor
) -> None:
    levels = pyramid_level(upright(rois)[:, 1:], SCALES)
    assert levels.unique().tolist() == [0, 1, 2]
    found = multiscale_roi_align_rotated(maps, rois, 3, SCALES, 2)
    for row, roi, level in zip(found, rois, levels.tolist(), strict=True):
        wanted = roi_align_rotated(maps[level], roi[None], (3, 3), SCALES[level], 2, aligned=False)
        torch.testing.assert_close(row, wanted[0], rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_level_that_was_read_and_no_other(maps: list[torch.Tensor]) -> None:
    for m in maps:
        m.requires_grad_()
    small = torch.tensor([[1, 100.0, 100, 60, 20, 30]])
    multiscale_roi_align_rotated(maps, small, 3, SCALES, 2).sum().backward()
    assert maps[0].grad[1].abs().sum() > 0
    assert (maps[0].grad[0] == 0).all()
    assert (maps[1].grad == 0).all() and (maps[2].grad == 0).all()


def test_no_regions_and_one_map(maps: list[torch.Tensor], rois: torch.Tensor) -> None:
    assert multiscale_roi_align_rotated(maps, rois[:0], 7, SCALES, 2).shape == (0, 5, 7, 7)
    found = multiscale_roi_align_rotated(maps[1:2], rois, 3, SCALES[1:2], 2)
    wanted = roi_align_rotated(maps[1], rois, (3, 3), SCALES[1], 2, aligned=False)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
