import numpy as np
import pytest
import torch
from PIL import Image

from detcore.data import DataError, read_image
from detcore.data.faults import DamagedImage
from detcore.data.images import image_size


@pytest.fixture
def sideways(tmp_path):
    """Stored 4 wide and 2 high; with its EXIF rotation it is 2 wide and 4 high."""
    picture = Image.new("RGB", (4, 2), (0, 0, 0))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = picture.getexif()
    exif[0x0112] = 6  # rotate clockwise: the stored top left is shown at the top right
    picture.save(tmp_path / "a.png", exif=exif)
    return tmp_path / "a.png"


def test_exif_orientation_is_respected(sideways):
    image = read_image(sideways)
    assert image.shape == (3, 4, 2)
    assert image_size(sideways) == (2, 4)
    assert image[0, 0, 1] == 255
    assert image[0].sum() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations(tmp_path, orientation):
    """Compare each orientation with the rotation that the EXIF standard defines."""
    seen = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40  # as a viewer shows it
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),  # rotated clockwise to be shown
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }[orientation](seen)
    picture = Image.fromarray(np.ascontiguousarray(stored))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png")
    assert image[0].tolist() == seen.tolist()
    assert image_size(tmp_path / "a.png") == (3, 2)


def test_annotations_made_on_the_unturned_picture_get_it_unturned(sideways):
    assert read_image(sideways, (4, 2)).shape == (3, 2, 4)
    assert read_image(sideways, (2, 4)).shape == (3, 4, 2)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (5, 3)).save(path)
    image = read_image(path)
    assert image.shape == (3, 3, 5)
    assert image.dtype == torch.uint8


def test_colours_survive_their_mode(tmp_path):
    red = Image.new("RGB", (5, 3), (255, 0, 0))
    red.quantize(4).save(tmp_path / "palette.png")
    red.convert("CMYK").save(tmp_path / "print.tif")
    red.convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    for name, tolerance in (("palette.png", 0), ("print.tif", 0), ("print.jpg", 6)):
        image = read_image(tmp_path / name).int()
        assert (image[:, 1, 1] - torch.tensor([255, 0, 0])).abs().max() <= tolerance, name


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_their_range(tmp_path, name):
    levels = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / name)
    assert read_image(tmp_path / name)[0].tolist() == [[0, 0, 1, 128, 255]]


def test_floats_are_stretched(tmp_path):
    values = np.array([[-1.0, 0.0, 1.0, np.nan]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[2].tolist() == [[0, 128, 255, 128]]
    Image.fromarray(np.full((1, 2), 7.0, np.float32)).save(tmp_path / "flat.tif")
    assert read_image(tmp_path / "flat.tif")[0].tolist() == [[0, 0]]


def test_transparency_shows_white(tmp_path):
    picture = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    picture.putpixel((2, 0), (0, 0, 0, 128))
    picture.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 255, 127]]
    see_through = Image.new("P", (2, 1))
    see_through.putpalette([9, 9, 9, 50, 60, 70])
    see_through.putpixel((1, 0), 1)
    see_through.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png")[:, 0].T.tolist() == [[255, 255, 255], [50, 60, 70]]


def test_unreadable_pictures_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nix.jpg: no such picture"):
        read_image(tmp_path / "nix.jpg")
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    png = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(png)
    spoilt = bytearray(png.read_bytes())
    spoilt[40:60] = b"x" * 20  # Pillow's SyntaxError: broken PNG file
    for name, content in (
        ("empty.jpg", b""),
        ("cut.jpg", whole.read_bytes()[:900]),
        ("spoilt.png", bytes(spoilt)),
        ("text.jpg", b"not a picture"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedImage, match=rf"{name}: not a readable picture"):
            read_image(tmp_path / name)


def test_decompression_bombs_are_damage_and_no_crash(tmp_path, monkeypatch):
    Image.new("1", (200, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    for reader in (read_image, image_size):
        with pytest.raises(DamagedImage, match=r"bomb.png: .*more than the 10000 pixels"):
            reader(tmp_path / "bomb.png")
