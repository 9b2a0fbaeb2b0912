import numpy as np
import pytest
import torch
from PIL import Image

from detcore.data import DataError, Record, read_image
from detcore.data.base import image_size


@pytest.fixture
def sideways(tmp_path):
    """4 wide and 2 high as stored; EXIF says turn it, so it is seen 2 wide and 4 high."""
    picture = Image.new("RGB", (4, 2), (0, 0, 0))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn clockwise: the stored top left is seen at the top right
    picture.save(tmp_path / "a.png", exif=exif)
    return tmp_path / "a.png"


def test_exif_orientation_is_respected(sideways):
    image = read_image(sideways)
    assert image.shape == (3, 4, 2)
    assert image_size(sideways) == (2, 4)
    assert image[0, 0, 1] == 255
    assert image[0].sum() == 255


def test_annotations_made_on_the_unturned_picture_get_it_unturned(sideways):
    assert read_image(sideways, (4, 2)).shape == (3, 2, 4)
    assert read_image(sideways, (2, 4)).shape == (3, 4, 2)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (5, 3)).save(path)
    image = read_image(path)
    assert image.shape == (3, 3, 5)
    assert image.dtype == torch.uint8


def test_unreadable_pictures_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nix.jpg: no such picture"):
        read_image(tmp_path / "nix.jpg")
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    for name, content in (("empty.jpg", b""), ("cut.jpg", whole.read_bytes()[:900])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: not a readable picture"):
            read_image(tmp_path / name)


def test_a_target_has_no_crowd_and_nothing_outside():
    record = Record(
        5,
        "a.jpg",
        20,
        10,
        boxes=np.array([[-3, 1, 5, 5], [25, 1, 30, 4], [0, 0, 20, 10], [1, 1, 1 + 1e-9, 5]]),
        labels=np.array([1, 2, 3, 4]),
        area=np.array([1.0, 2, 3, 4]),
        iscrowd=np.array([False, False, True, False]),
        ignore=np.zeros(4, bool),
    )
    target = record.target()
    assert target["boxes"].tolist() == [[0, 1, 5, 5]]
    assert target["labels"].tolist() == [1]
    assert target["area"].tolist() == [1]
    assert record.boxes[0, 0] == -3
