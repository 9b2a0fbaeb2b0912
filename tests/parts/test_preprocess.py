import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detcore.parts.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FitWithin,
    Preprocess,
    StretchTo,
    scale_boxes,
)


@pytest.mark.parametrize(
    ("shorter", "longer", "size", "wanted"),
    [
        (320, 320, (480, 640), (240, 320)),
        (320, 320, (60, 30), (320, 160)),
        (100, 300, (50, 60), (100, 120)),
        (100, 300, (50, 400), (37, 300)),
        (64, 64, (1, 1000), (1, 64)),
        (128, 128, (128, 128), (128, 128)),
    ],
)
def test_fit_within(shorter: int, longer: int, size: tuple[int, int], wanted: tuple[int, int]):
    assert FitWithin(shorter, longer)(size) == wanted


def test_images_and_boxes_come_out_as_torchvisions() -> None:
    torch.manual_seed(0)
    images = [torch.rand(3, 50, 83), torch.rand(3, 120, 61), torch.rand(3, 97, 97)]
    boxes = [torch.tensor([[3.0, 4, 20, 30]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 97, 97]])]
    theirs = GeneralizedRCNNTransform(64, 100, list(IMAGENET_MEAN), list(IMAGENET_STD))
    want, targets = theirs(images, [{"boxes": b} for b in boxes])
    got = Preprocess(FitWithin(64, 100))(images)
    assert got.sizes == want.image_sizes
    assert got.original_sizes == [(50, 83), (120, 61), (97, 97)]
    assert got.padded_size == tuple(want.tensors.shape[-2:])
    torch.testing.assert_close(got.images, want.tensors, atol=1e-5, rtol=1e-5)
    for mine, other in zip(got.boxes_in(boxes), targets, strict=True):
        torch.testing.assert_close(mine, other["boxes"])


def test_stretching_scales_the_axes_apart_and_back() -> None:
    batch = Preprocess(StretchTo(40, 80))([torch.rand(3, 20, 20)])
    boxes = torch.tensor([[1.0, 2, 10, 20]])
    (scaled,) = batch.boxes_in([boxes])
    assert scaled.tolist() == [[4, 4, 40, 40]]
    assert batch.padded_size == (64, 96)
    assert batch.sizes == [(40, 80)]
    torch.testing.assert_close(scale_boxes(scaled, (40, 80), (20, 20)), boxes)


def test_padding_is_the_mean_colour_and_given_sizes_hold() -> None:
    batch = Preprocess(FitWithin(32, 32), pad_to=(96, 64))([torch.rand(3, 16, 32)])
    assert batch.padded_size == (96, 64)
    assert (batch.images[0, :, 16:] == 0).all()
    assert (batch.images[0, :, :, 32:] == 0).all()
    with pytest.raises(ValueError, match=r"pad_to must hold \(32, 32\), got \(16, 64\)"):
        Preprocess(FitWithin(32, 32), pad_to=(16, 64))([torch.rand(3, 8, 8)])


def test_an_image_of_the_right_size_is_not_touched_but_normalised() -> None:
    image = torch.rand(3, 32, 64)
    batch = Preprocess(FitWithin(64, 64), mean=(0, 0, 0), std=(1, 1, 1))([image])
    assert torch.equal(batch.images[0], image)


def test_settings_are_no_weights() -> None:
    assert not Preprocess(StretchTo(8, 8)).state_dict()
