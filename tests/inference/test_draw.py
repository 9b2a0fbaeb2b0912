import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from detcore.inference.draw import class_colour, draw, draw_boxes, overview, save_picture

CLASSES = ["cat", "dog"]


def answer(*rows, size=(64, 64)):
    found = [{"class": c, "score": s, "box": list(b)} for c, s, b in rows]
    return {"width": size[0], "height": size[1], "detections": found}


def test_small_pictures_are_enlarged_and_the_box_is_where_it_belongs():
    image = torch.full((3, 64, 96), 128, dtype=torch.uint8)
    picture = draw(image, answer(("dog", 0.9, (24, 32, 48, 56))), classes=CLASSES)
    assert picture.size == (768, 512)  # 8 times larger, so that the short side reaches 480
    pixels = np.asarray(picture)
    colour = np.array(class_colour(1))
    for x, y in ((24 * 8, 45 * 8), (48 * 8 - 1, 45 * 8), (36 * 8, 56 * 8 - 1)):
        assert (pixels[y, x] == colour).all()
    assert (pixels[45 * 8, 36 * 8] == 128).all()  # the inside stays visible
    assert (pixels[45 * 8, 24 * 8 - 2] == 128).all()
    # the tag is above the box, in the colour of the class, with letters
    tag = pixels[32 * 8 - 12 : 32 * 8 - 2, 24 * 8 : 24 * 8 + 60].reshape(-1, 3)
    assert 0.3 < (tag == colour).all(1).mean() < 1


def test_large_pictures_keep_their_size():
    assert draw(torch.rand(3, 500, 600), answer(), classes=CLASSES).size == (600, 500)


@pytest.mark.parametrize(
    "box", [(0, 0, 20, 20), (44, 0, 64, 20), (0, 44, 20, 64), (44, 44, 64, 64), (0, 0, 64, 64)]
)
def test_tags_stay_inside_the_picture(box):
    image = torch.zeros(3, 64, 64)
    plain = np.asarray(draw(image, answer(), classes=CLASSES))
    picture = np.asarray(draw(image, answer(("cat", 0.5, box)), classes=CLASSES))
    x0, y0, x1, y1 = (round(c * 8) for c in box)
    outline = np.zeros(plain.shape[:2], bool)
    outline[y0:y1, x0:x1] = True
    outline[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = False
    tag = (picture == class_colour(0)).all(2) & ~outline
    # about 9 letters of half of 15 pixels by 18 pixels, less the letters themselves
    assert tag.sum() > 600


def test_tags_of_neighbours_do_not_cover_each_other():
    image = torch.zeros(3, 64, 64)
    rows = [("cat", 0.9, (10, 20, 40, 50)), ("dog", 0.8, (11, 21, 41, 51))]
    picture = np.asarray(draw(image, answer(*rows), classes=CLASSES))
    for index in (0, 1):
        alone = np.asarray(draw(image, answer(rows[index]), classes=CLASSES))
        colour = class_colour(index)
        together = (picture == colour).all(2).sum()
        assert together > 0.75 * (alone == colour).all(2).sum()


def test_no_line_crosses_a_tag():
    image = torch.zeros(3, 64, 64)
    low = ("cat", 0.5, (10, 30, 40, 60))
    crossing = ("dog", 0.9, (14, 5, 60, 29))  # its lower edge crosses the cat's tag
    alone = np.asarray(draw(image, answer(low), classes=CLASSES))
    both = np.asarray(draw(image, answer(crossing, low), classes=CLASSES))
    tag = (slice(30 * 8 - 16, 30 * 8), slice(10 * 8, 10 * 8 + 60))
    assert (alone[tag] == both[tag]).all()
    assert (both[29 * 8 - 1, 50 * 8] == class_colour(1)).all()


def test_many_small_boxes_are_not_hidden_by_their_tags():
    image = torch.zeros(3, 1600, 1600)
    rows = [("cat", 0.5, (x, y, x + 70, y + 60)) for x in range(0, 1500, 150) for y in (40, 200)]
    small = np.asarray(draw(image, answer(*rows, size=(1600, 1600)), classes=CLASSES))
    assert (small[60:95, 20:50] == 0).all()  # the inside of the first one
    # letters of 13 pixels, not of 1600 / 34: about 70 x 20 pixels per tag, minus its letters
    assert (small == class_colour(0)).all(2).sum() < 20 * 70 * 25
    large = answer(("cat", 0.5, (100, 400, 900, 1500)), size=(1600, 1600))
    tag = np.asarray(draw(image, large, classes=CLASSES))[:398, 101]
    assert (tag == class_colour(0)).all(1).sum() > 40


def test_a_box_without_area_is_not_drawn():
    image = torch.zeros(3, 64, 64)
    picture = draw(image, answer(("cat", 0.5, (5, 5, 5, 20))), classes=CLASSES)
    assert not np.asarray(picture).any()


def test_boxes_are_drawn_at_the_pictures_own_size_too():
    image = torch.zeros(3, 60, 90)
    colour = (10, 200, 30)
    # the second box is thinner than a pixel, but still has a line
    rows = [((30, 25, 60, 50), "", colour), ((5.2, 5.1, 5.6, 20), "", colour)]
    picture = draw_boxes(image, rows, enlarge=False)
    assert picture.size == (90, 60)
    pixels = np.asarray(picture)
    assert (pixels[[25, 49, 35], [45, 45, 30]] == colour).all()
    assert (pixels[12, 5] == colour).all()


def test_classifications_are_lines_at_the_top():
    image = torch.zeros(3, 64, 64)

    def drawn(*named):
        rows = [{"class": c, "score": s} for c, s in named]
        found = {"width": 64, "height": 64, "classes": rows}
        return np.asarray(draw(image, found, classes=CLASSES))

    one, two = drawn(("dog", 0.8)), drawn(("dog", 0.8), ("cat", 0.2))
    assert (one[1, 1] == class_colour(1)).all()
    height = int((one[:, 1] == class_colour(1)).all(1).sum()) - 1  # rectangles have their last row
    assert not one[height + 1 :].any()
    assert (two[:height] == one[:height]).all()
    assert (two[height + 1, 1] == class_colour(0)).all()
    assert not two[2 * height + 1 :].any()
    assert not drawn().any()
    # tags that the edge of the picture would cut are left out
    many = (drawn(*[("dog", 0.5)] * 100)[:, 1] == class_colour(1)).all(1)
    assert many.sum() in (len(many) // height * height, len(many) // height * height + 1)


def test_neighbouring_classes_look_different():
    colours = np.array([class_colour(k) for k in range(10)], float)
    distance = np.abs(colours[:, None] - colours[None]).max(2) + 1000 * np.eye(10)
    assert distance.min() > 30
    assert all(np.abs(a - b).max() > 100 for a, b in itertools.pairwise(colours))


def test_overview():
    cells = [Image.new("RGB", (40, 30), (k * 50, 0, 0)) for k in range(3)]
    sheet = overview(cells, columns=2)
    assert sheet.size == (86, 66)
    assert [sheet.getpixel((x, y))[0] for x, y in ((5, 5), (60, 5), (5, 50))] == [0, 50, 100]
    assert sheet.getpixel((60, 50)) == (255, 255, 255)
    with pytest.raises(ValueError, match="at least one picture"):
        overview([])


def test_the_suffix_decides_the_format(tmp_path):
    for name, form in (("a.png", "PNG"), ("a.jpg", "JPEG")):
        save_picture(Image.new("RGB", (4, 4)), tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.format == form
