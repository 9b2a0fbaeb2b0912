"""How the digits are drawn: their strokes from 8 x 8 pixels, what is behind them, their colours."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Corners = NDArray[np.float64]

_INK = 0.3  # what of a digit counts as ink, 0..1
_FINE = 0.125  # of a glyph's pixel: how finely an oriented box fits
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def draw(glyph: Array, height: float, most: float, rng: np.random.Generator) -> Array:
    """Enlarge, stretch, slant and turn a glyph a little; crop to the ink. [h, w], 0..1."""
    turn, slant = rng.uniform(-most, most), rng.uniform(-0.2, 0.2)  # radians, shear
    sy = height / glyph.shape[0]
    sx = sy * float(rng.uniform(0.8, 1.15))
    side = int(np.hypot(glyph.shape[0] * sy, glyph.shape[1] * sx) * 1.15) + 3
    across, down = _turned(side, turn)
    ink = _ink(glyph, down / sy, (across - slant * down) / sx)
    return ink[_inked(ink)]


def draw_oriented(
    glyph: Array, height: float, aspect: float, most: float, rng: np.random.Generator
) -> tuple[Array, Corners]:
    """A glyph whose ink is `height` high and `aspect` times less wide, upright first, then turned.

    Its writer's slant is taken out: a slanted stroke in an upright box looks like a turned one, so
    the angle would be one that nobody can see.

    Gives the ink [h, w], cropped, and the corners [8] of the box around it along its own axes,
    pixels of the ink.
    """
    turn, slant = rng.uniform(-most, most), -_slant(glyph)
    # where the ink ends, in the glyph's pixels from its middle: alike at any size
    fine = np.arange(-8, 8, _FINE, dtype=np.float32) + _FINE / 2
    rows, columns = _inked(_ink(glyph, fine[:, None], fine[None, :] - slant * fine[:, None]))
    top, left = (float(fine[at.start]) - _FINE / 2 for at in (rows, columns))
    low, right = (float(fine[at.stop - 1]) + _FINE / 2 for at in (rows, columns))
    sy, sx = height / (low - top), height / aspect / (right - left)

    x, y = np.array([left, right, right, left]) * sx, np.array([top, top, low, low]) * sy
    cos, sin = np.cos(turn), np.sin(turn)
    points = np.column_stack([cos * x - sin * y, sin * x + cos * y])
    side = 2 * int(np.abs(points).max()) + 5
    across, down = _turned(side, turn)
    # slanted in the glyph's own pixels, so that a narrow one is no wider for it
    ink = _ink(glyph, down / sy, across / sx - slant * down / sy)
    seen = _inked(ink)
    # a pixel's middle is half a pixel from its border
    corners = points + side / 2 - [seen[1].start, seen[0].start]
    return ink[seen], corners.ravel()


def _slant(glyph: Array) -> float:
    """By how much strokes lean, x per y: of least squares, each pixel weighted by its ink."""
    y, x = np.indices(glyph.shape)
    weight = glyph / glyph.sum()
    y, x = y - (weight * y).sum(), x - (weight * x).sum()
    return float((weight * x * y).sum() / max(float((weight * y * y).sum()), 1e-9))


def _turned(side: int, turn: float) -> tuple[Array, Array]:
    """Of each pixel of a square its place along a turned digit's axes: across and down."""
    cos, sin = np.cos(turn), np.sin(turn)
    at = np.arange(side, dtype=np.float32) - (side - 1) / 2
    return cos * at[None, :] + sin * at[:, None], cos * at[:, None] - sin * at[None, :]


def _ink(glyph: Array, y: Array, x: Array) -> Array:
    # bilinear enlargement leaves a wide grey rim; steepened, the stroke ends within a pixel or two
    ink: Array = ((_sample(glyph, y, x) - 0.35) * 3).clip(0, 1)
    return ink


def _inked(ink: Array) -> tuple[slice, slice]:
    """The rows and columns from the first that has ink to the last."""
    rows, columns = np.flatnonzero(ink.max(1) > _INK), np.flatnonzero(ink.max(0) > _INK)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _sample(glyph: Array, y: Array, x: Array) -> Array:
    """Bilinear values of `glyph` at offsets from its centre, in its own pixels; 0 outside."""
    padded = np.pad(glyph, 2)
    y = (y + (padded.shape[0] - 1) / 2).clip(0, padded.shape[0] - 1.001)
    x = (x + (padded.shape[1] - 1) / 2).clip(0, padded.shape[1] - 1.001)
    y0, x0 = y.astype(np.intp), x.astype(np.intp)
    fy, fx = (y - y0).astype(np.float32), (x - x0).astype(np.float32)
    at, width, flat = y0 * padded.shape[1] + x0, padded.shape[1], padded.ravel()
    top = flat[at] * (1 - fx) + flat[at + 1] * fx
    low = flat[at + width] * (1 - fx) + flat[at + width + 1] * fx
    mixed: Array = top * (1 - fy) + low * fy
    return mixed


@lru_cache(maxsize=64)
def _stretch(coarse: int, fine: int) -> Array:
    """[fine, coarse] matrix that interpolates `coarse` values linearly to `fine`."""
    at = np.linspace(0, coarse - 1, fine)
    low = np.minimum(at.astype(int), coarse - 2)
    matrix = np.zeros((fine, coarse), np.float32)
    matrix[np.arange(fine), low] = 1 - (at - low)
    matrix[np.arange(fine), low + 1] = at - low
    return matrix


def background(rng: np.random.Generator, size: int) -> Array:
    """A flat tint, a gradient, clouds, stripes or coarse noise. [3, size, size], about 0..1."""
    base = rng.uniform(0.05, 0.95, (3, 1, 1)).astype(np.float32)
    strength = float(rng.uniform(0.05, 0.25))
    kind = int(rng.integers(5))
    pattern: Array
    if kind == 0:
        pattern = np.zeros((1, size, size), np.float32)
    elif kind == 3:
        at = np.linspace(0, 1, size, dtype=np.float32)
        angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 24)
        along = np.cos(angle) * at[:, None] + np.sin(angle) * at[None, :]
        pattern = np.sin(2 * np.pi * waves * along)[None].astype(np.float32)
    else:
        # 2x2 random values stretched are a gradient, a few are clouds, many are a texture
        cells = {1: 2, 2: int(rng.integers(3, 7)), 4: size // 3}[kind]
        coarse = rng.uniform(-1, 1, (3, cells, cells)).astype(np.float32)
        matrix = _stretch(cells, size)
        pattern = np.matmul(matrix @ coarse, matrix.T, dtype=np.float32)
    ground: Array = base + strength * pattern
    return ground


def ink_colour(rng: np.random.Generator, patch: Array, contrast: float) -> Array:
    """A colour whose luminance lies at least `contrast` from the patch's mean. [3], 0..1."""
    ground = float((_LUMA @ patch.reshape(3, -1)).mean())
    lighter, darker = 1 - ground - contrast, ground - contrast
    # The side is drawn in proportion to the room on it: dark on light and light on dark both occur
    room = np.maximum([lighter, darker], 0.0)
    up = rng.random() * room.sum() < room[0] if room.sum() > 0 else ground < 0.5
    edge = ground + contrast if up else ground - contrast
    wanted = rng.uniform(min(edge, 1), 1) if up else rng.uniform(0, max(edge, 0))
    colour = rng.random(3).astype(np.float32)
    mean = float(_LUMA @ colour)
    # towards black or towards white until the luminance is the wanted one
    mixed: Array = (
        colour * np.float32(wanted / mean)
        if wanted < mean
        else 1 - (1 - colour) * np.float32((1 - wanted) / max(1 - mean, 1e-6))
    )
    return mixed
