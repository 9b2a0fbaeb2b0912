"""The one reader of pictures."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from detcore.data.faults import DamagedImage

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
)

# Pillow's plugins let all of these out on damaged files (a broken PNG is a SyntaxError)
_DAMAGE = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    IndexError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_TINY = 4  # pixels
_STRETCHED = ("I", "F")  # modes of grey without a white of its own
_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = 5  # orientations from here on swap the axes
_WAYS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS = [way for number, way in _WAYS.items() if number >= _SIDEWAYS]
_PNG = b"\x89PNG\r\n\x1a\n"


def read_image(
    path: Path,
    size: tuple[int, int] | None = None,
    part: tuple[int, int, int, int] | None = None,
) -> Tensor:
    """Read a picture as uint8 ``[3, H, W]``, RGB, turned as its EXIF orientation says.

    So boxes are in pixels of the picture as a viewer shows it, which is how COCO and annotation
    tools count. 16-bit grey is divided by 256, whatever part of its range it uses; grey of 32-bit
    integers or floats, which has no white of its own, is stretched from its least to its greatest
    value. CMYK and palettes become RGB. What is transparent shows white. Of an animation the first
    picture is taken. EXIF and texts that can't be read are passed over: the pixels count.

    Args:
        path: any format Pillow reads.
        size: (width, height) that the annotation was made on, in pixels. Where it is the stored
            size and not the turned one, the annotator ignored EXIF, and so does this.
        part: what to give of it, xyxy in pixels of the turned picture; None: all. The whole
            picture is decoded for it, and the part alone converted and copied.

    Raises:
        DamagedImage: the file is missing, no regular file, or no readable picture.
    """
    large = size is not None and size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or size[0] * size[1])
    try:
        with unwarned() if large else nullcontext(), _opened(path) as stored:
            way = _way(stored, size)
            stored.load()
            turned = stored if way is None else stored.transpose(way)
            if part is not None:
                # whose grey is stretched, it is by the whole
                turned = (_as_rgb(turned) if turned.mode in _STRETCHED else turned).crop(part)
            # np.array, not asarray: torch wants memory that it may write to
            pixels = np.array(_as_rgb(turned))
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@contextmanager
def unwarned() -> Iterator[None]:
    """Without Pillow's warning, of an attack, at half of the pixels from which on it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """A picture ``[3, H, W]`` at another (height, width), antialiased, in its own dtype."""
    if image.dtype == torch.uint8 and max(image.shape[-2:]) <= _TINY:
        # torch takes a uint8 image of 3 x 3 pixels for a channels-last one, and asserts
        whole = resize(image.float(), list(size), antialias=True)
        return whole.round().clamp(0, 255).byte()
    return resize(image, list(size), antialias=True)


def image_size(path: Path, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) in pixels of what `read_image` gives, read from the header alone.

    Raises:
        DamagedImage: the file is missing, no regular file, or no picture.
    """
    try:
        with _opened(path) as picture:
            if picture.format == "TIFF":
                # Pillow turns these itself, on loading or before, which hangs on its version
                if _orientation(picture) >= _SIDEWAYS:
                    picture.load()
                return picture.size
            way = _way(picture, size)
            width, height = picture.size
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return (height, width) if way in _SWAPS else (width, height)


def _opened(path: Path) -> Image.Image:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        # a pipe would be waited for without end
        raise OSError("a folder, pipe or device, wanted a file")
    try:
        return Image.open(path)
    except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        # EXIF of a wrong type
        raise OSError(f"{type(error).__name__}: {error}") from error
    except ValueError:
        if not path.open("rb").read(len(_PNG)) == _PNG:
            raise
        # texts beyond what Pillow reads: the pixels are sound all the same
        return Image.open(io.BytesIO(_without_texts(path.read_bytes())))


def _without_texts(png: bytes) -> bytes:
    """A PNG's bytes less its chunks of text."""
    kept, at = [png[: len(_PNG)]], len(_PNG)
    while at + 8 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
            kept.append(png[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)


def _orientation(picture: Image.Image) -> int:
    """EXIF's number for how a picture is turned, 1 (upright) where none can be read."""
    try:
        said = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow lets out whatever a broken entry makes it stumble over
        return 1
    return said if isinstance(said, int) and 1 <= said <= 8 else 1


def _way(picture: Image.Image, size: tuple[int, int] | None) -> Image.Transpose | None:
    """How to turn the pixels; not at all where `size` says that the annotator didn't."""
    if picture.format == "TIFF":
        return None  # Pillow has done so
    way = _WAYS.get(_orientation(picture))
    ignored = size is not None and way in _SWAPS and picture.size == size != picture.size[::-1]
    return None if ignored else way


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
    if picture.mode in _STRETCHED:
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
        low, high = float(values.min()), float(values.max())
        grey = (values - low) * (255 / (high - low) if high > low else 0.0)
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return picture.convert("RGB")
