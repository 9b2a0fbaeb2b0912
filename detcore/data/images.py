"""The one reader of pictures."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from detcore.data.faults import DamagedImage

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# Pillow's plugins let all of these out on damaged files (a broken PNG is a SyntaxError)
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ORIENTATION = 0x0112  # EXIF tag


def read_image(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read a picture as uint8 ``[3, H, W]``, RGB, turned as its EXIF orientation says.

    So boxes are in pixels of the picture as a viewer shows it, which is how COCO and annotation
    tools count. 16-bit grey is divided by 256, whatever part of its range it uses; grey of 32-bit
    integers or floats, which has no white of its own, is stretched from its least to its greatest
    value. CMYK and palettes become RGB. What is transparent shows white.

    Args:
        path: any format Pillow reads.
        size: (width, height) that the annotation was made on, in pixels. Where it is the stored
            size and not the turned one, the annotator ignored EXIF, and so does this.

    Raises:
        DamagedImage: the file is missing, or no readable picture.
    """
    try:
        with Image.open(path) as stored:
            turned = ImageOps.exif_transpose(stored)
            if size is not None and stored.size == size != turned.size:
                turned = stored
            # np.array, not asarray: torch wants memory that it may write to
            pixels = np.array(_as_rgb(turned))
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, read from the header alone.

    Raises:
        DamagedImage: the file is missing, or no picture.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            sideways = picture.getexif().get(_ORIENTATION, 1) >= 5  # 5 to 8 swap the axes
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return (height, width) if sideways else (width, height)


def _damaged(path: Path, error: Exception) -> DamagedImage:
    if isinstance(error, FileNotFoundError):
        return DamagedImage(f"{path}: no such picture")
    reason = str(error)
    if isinstance(error, UnidentifiedImageError):
        # Pillow's own words only say the path again
        reason = "of no format that Pillow knows" if path.stat().st_size else "the file is empty"
    if isinstance(error, Image.DecompressionBombError):
        # Pillow's own words speak of an attack
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        reason = f"of more than the {most} pixels that are read; cut it into several"
    return DamagedImage(f"{path}: not a readable picture ({reason})")


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion cuts off at 255 and leaves white
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
        low, high = float(values.min()), float(values.max())
        grey = (values - low) * (255 / (high - low) if high > low else 0.0)
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return picture.convert("RGB")
