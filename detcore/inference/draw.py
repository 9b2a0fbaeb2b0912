"""Pictures for people: detections drawn on a photo, an overview of several, loss curves."""

from __future__ import annotations

import colorsys
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from detcore.data.oriented import corners_of
from detcore.utils.atomic_write import atomic
from detcore.utils.json_types import Json

Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]
# box xyxy, or cxcywhr with degrees, pixels; text of its tag; colour
Row = tuple[Sequence[float], str, Colour]
Point = tuple[float, float]

# A label of readable size covers a small picture; smaller ones are enlarged to this short side
_SHORT_SIDE = 480
_MAX_FACTOR = 8
_CELL = 640  # longest side of an overview's cell, pixels


def draw(image: Tensor, answer: Json, *, classes: Sequence[str]) -> Image.Image:
    """Draw an answer on its picture.

    Args:
        image: uint8 or float 0..1 ``[3, H, W]``, RGB.
        answer: as `detcore.inference.predictor.to_json` gives it. Detections get a box in their
            class's colour and a tag with name, score and, if it has one, its track's number; a
            classification gets a line at the top for each class named, as many as fit.
        classes: all class names, in order: a class's colour is its place among them.

    Returns:
        An RGB picture; one with a short side under 480 pixels is enlarged by a whole factor, so
        that the tags can be read. Deterministic.
    """
    order = list(classes)
    if "detections" in answer:
        return draw_boxes(
            image,
            [
                (f["box"], _text(f), class_colour(order.index(f["class"])))
                for f in reversed(answer["detections"])  # the surest last, so that it lies on top
            ],
        )
    picture, _ = _enlarged(image)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_letters(picture, []))
    top = 0.0
    for named in answer["classes"]:
        text = f"{named['class']} {named['score']:.2f}"
        height = _tag_size(pen, text, font)[1]
        if top + height > picture.height:
            break  # a line more would be cut
        _tag(pen, (0, top), text, font, class_colour(order.index(named["class"])))
        top += height
    return picture


def draw_boxes(image: Tensor, rows: Sequence[Row], *, enlarge: bool = True) -> Image.Image:
    """Draw boxes with tags on a picture.

    Args:
        image: uint8 or float 0..1 ``[3, H, W]``, RGB.
        rows: box (xyxy, or cxcywhr of an oriented one, pixels of the image), text of its tag,
            colour; later ones lie on top. A box without area is left out.
        enlarge: a small picture, as `draw` does.
    """
    picture, factor = _enlarged(image) if enlarge else (as_picture(image), 1)
    pen = ImageDraw.Draw(picture)
    size = image.shape[-1], image.shape[-2]
    borders = [_border(box, *size) for box, _, _ in rows]
    heights = [(_around(border)[3] - _around(border)[1]) * factor for border in borders]
    letters = _letters(picture, heights)
    font = ImageFont.load_default(letters)
    line = max(2, round(letters / 7))
    seen = []
    for border, (_, text, colour) in zip(borders, rows, strict=True):
        x0, y0, x1, y1 = _around(border)
        if x1 > x0 and y1 > y0:
            seen.append(([(x * factor, y * factor) for x, y in border], text, colour))
    for border, _, colour in seen:
        if len(border) == 4:
            pen.polygon(border, outline=colour, width=line)
            continue
        x0, y0, x1, y1 = _around(border)
        # a box thinner than a pixel still has a line
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=line)
    # after all boxes: no line may cross a tag
    taken: list[Box] = []
    for border, text, colour in seen:
        place = _place(pen, border, text, font, picture.size, taken)
        _tag(pen, place[:2], text, font, colour)
        taken.append(place)
    return picture


def _border(box: Sequence[float], width: int, height: int) -> list[Point]:
    """Two opposite corners of an upright box, four of an oriented one.

    They are not far outside the picture: drawing a box of 1e308 pixels takes for ever.
    """
    if len(box) == 5:
        far = 4.0 * max(width, height)
        sides = [min(max(side, 0.0), far) for side in box[2:4]]
        middle = [min(max(x, -far), far) for x in box[:2]]
        corners = corners_of(np.array([*middle, *sides, box[4]], np.float64))
        return [(x, y) for x, y in corners.reshape(4, 2).tolist()]
    x0, x1 = (min(max(x, -1.0), width + 1.0) for x in (box[0], box[2]))
    y0, y1 = (min(max(y, -1.0), height + 1.0) for y in (box[1], box[3]))
    return [(x0, y0), (x1, y1)]


def _around(border: Sequence[Point]) -> Box:
    """The upright box of a border; of two corners as they stand, so that one without area shows."""
    if len(border) == 2:
        return (*border[0], *border[1])
    across, down = zip(*border, strict=True)
    return min(across), min(down), max(across), max(down)


def overview(pictures: Sequence[Image.Image], columns: int = 4) -> Image.Image:
    """Pictures side by side, each fitted into a cell of the first one's shape, 640 wide at most."""
    if not pictures:
        raise ValueError("overview: at least one picture is wanted, got 0")
    columns = min(columns, len(pictures))
    rows, gap = math.ceil(len(pictures) / columns), 6
    width, height = ImageOps.contain(pictures[0], (_CELL, _CELL)).size
    width, height = min((width, height), pictures[0].size)
    sheet = Image.new(
        "RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (255, 255, 255)
    )
    for k, picture in enumerate(pictures):
        fitted = ImageOps.contain(picture, (width, height))
        left = (k % columns) * (width + gap) + (width - fitted.width) // 2
        top = (k // columns) * (height + gap) + (height - fitted.height) // 2
        sheet.paste(fitted, (left, top))
    return sheet


def save_picture(picture: Image.Image, out: Path) -> None:
    """Write a picture in the format of its suffix, whole or not at all."""
    with atomic(out) as aside:
        picture.save(aside)


def class_colour(index: int) -> Colour:
    """A strong colour for a class; neighbours in the list get hues far apart (golden angle)."""
    hue = (0.02 + index * 0.61803398875) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.9, (1.0, 0.8)[index // 8 % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def as_picture(image: Tensor) -> Image.Image:
    """uint8 or float 0..1 ``[3, H, W]`` as an RGB picture."""
    pixels = image if image.dtype.is_floating_point else image / 255
    array = (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(array), "RGB")


def _enlarged(image: Tensor) -> tuple[Image.Image, int]:
    picture = as_picture(image)
    factor = min(_MAX_FACTOR, max(1, math.ceil(_SHORT_SIDE / min(picture.size))))
    if factor > 1:
        size = picture.width * factor, picture.height * factor
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return picture, factor


def _text(found: Json) -> str:
    """Of a detection's tag: class and score, of a tracked one its number first."""
    number = f"#{found['track']} " if "track" in found else ""
    return f"{number}{found['class']} {found['score']:.2f}"


def _letters(picture: Image.Image, heights: Sequence[float]) -> int:
    """Size of a tag's letters: by the picture's, but many small boxes must not vanish behind them.

    heights: of the boxes, pixels of the picture.
    """
    size = min(picture.size) / 34
    if heights:
        size = min(size, statistics.median(heights) / 6)
    return max(13, round(size))


def _place(
    pen: ImageDraw.ImageDraw,
    border: Sequence[Point],
    text: str,
    font: Any,
    size: tuple[int, int],
    taken: list[Box],
) -> Box:
    """Where a tag goes: above its box, below it or inside, the first place that is free."""
    width, height = _tag_size(pen, text, font)
    most = size[0] - width
    spots = [(max(0.0, min(x, most)), y) for x, y in _spots(border, width, height)]
    fitting = [(x, y, x + width, y + height) for x, y in spots if y >= 0 and y + height <= size[1]]
    free = [s for s in fitting if not any(_meet(s, t) for t in taken)]
    left, top = spots[0][0], max(0.0, _around(border)[1])
    return (free or fitting or [(left, top, left + width, top + height)])[0]


def _spots(border: Sequence[Point], width: float, height: float) -> list[Point]:
    """Where the top left of a tag of this size may be, the best first."""
    x0, y0, x1, y1 = _around(border)
    if len(border) == 4:
        # at its corners: those of the upright box around it may be far from it
        top, low = (pick(border, key=lambda point: point[1])[0] for pick in (min, max))
        (_, left), (_, right) = (pick(border) for pick in (min, max))
        above, below = (top - width / 2, y0 - height), (low - width / 2, y1)
        return [above, below, (x0 - width, left - height / 2), (x1, right - height / 2)]
    right = x1 - width
    return [
        (x0, y0 - height),
        (x0, y1),
        (right, y0 - height),
        (right, y1),
        (x0, y0),
        (x0, y1 - height),
    ]


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _tag_size(pen: ImageDraw.ImageDraw, text: str, font: Any) -> tuple[float, float]:
    x0, _, x1, _ = pen.textbbox((0, 0), text, font=font)
    ascent, descent = font.getmetrics()
    return x1 - x0 + 6, ascent + descent + 2


def _tag(
    pen: ImageDraw.ImageDraw, at: Sequence[float], text: str, font: Any, colour: Colour
) -> None:
    width, height = _tag_size(pen, text, font)
    pen.rectangle((at[0], at[1], at[0] + width, at[1] + height), fill=colour)
    # black on light colours, white on dark ones (luminance of ITU-R BT.601)
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.text((at[0] + 3, at[1] + 1), text, fill=(0, 0, 0) if light else (255, 255, 255), font=font)
