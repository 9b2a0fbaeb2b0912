"""Where drawn answers go: one picture, a folder of them with an overview, or a video."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from detcore.data import DataError
from detcore.inference.draw import draw, overview, save_picture
from detcore.inference.input_sources import Frame, Source, opencv
from detcore.utils.errors import UsageError
from detcore.utils.json_types import Json
from detcore.utils.text import counted

_PICTURE_OUT = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_VIDEO_OUT = {".mp4": "mp4v", ".avi": "MJPG"}  # the codec that OpenCV itself brings for each
log = logging.getLogger(__name__)

_OVERVIEW, _ON_SHEET = "overview.png", 16  # pictures of an overview


class Gallery:
    """Draws answers on their pictures and writes them; a context manager.

    Args:
        out: None for nowhere; a .png, .jpg, .webp, .bmp or .tif for one picture; a .mp4 or .avi
            for one video; else a folder, which gets a PNG per picture or frame, and of several
            pictures ``overview.png`` of the first sixteen.
        classes: all class names, for their colours.
        pictures: how many come. videos: how many of these are videos or streams.

    Raises:
        UsageError: `out` is a picture or video, and what comes is not one; or it has another
            suffix, and is no folder that is there already.
        DataError: the video can't be written.
    """

    def __init__(
        self, out: Path | None, classes: Sequence[str], *, pictures: int, videos: int = 0
    ) -> None:
        self.out, self.classes = out, classes
        self.suffix = out.suffix.lower() if out else ""
        self.is_folder = out is not None and is_folder(out)
        if self.is_picture and (pictures > 1 or videos):
            what = f"{pictures} pictures" if not videos else "the frames of a video"
            raise UsageError(f"--out must be a folder for {what}, got {out}")
        if self.is_video and (pictures, videos) != (1, 1):
            files, films = counted(pictures, "file", "files"), counted(videos, "video", "videos")
            raise UsageError(f"--out {out} is for one video, got {files}, {films}")
        self.taken = {_OVERVIEW}
        self.sheet: list[Image.Image] = []
        self.video: Any = None

    @property
    def is_picture(self) -> bool:
        """Whether the output is one picture file."""
        return self.suffix in _PICTURE_OUT and not self.is_folder

    @property
    def is_video(self) -> bool:
        """Whether the output is one video file."""
        return self.suffix in _VIDEO_OUT and not self.is_folder

    def __enter__(self) -> Gallery:
        if self.out:
            (self.out if self.is_folder else self.out.parent).mkdir(parents=True, exist_ok=True)
        return self

    def add(self, frame: Frame, answer: Json) -> None:
        """Draw an answer (`detcore.inference.predictor.to_json`) and write it."""
        if not self.out:
            return
        picture = draw(frame.image, answer, classes=self.classes)
        if self.is_video:
            self._add_to_video(picture, frame)
        elif self.is_picture:
            save_picture(picture, self.out)
        else:
            name = free_name(frame.name, frame.number, ".png", self.taken)
            save_picture(picture, self.out / name)
            if frame.number is None and len(self.sheet) < _ON_SHEET:
                self.sheet.append(picture)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.video is not None:
            self.video.release()
        if kind is None and self.out and len(self.sheet) > 1:
            save_picture(overview(self.sheet), self.out / _OVERVIEW)

    def _add_to_video(self, picture: Image.Image, frame: Frame) -> None:
        if self.video is None:
            cv2 = opencv()
            codec = cv2.VideoWriter_fourcc(*_VIDEO_OUT[self.suffix])
            # MPEG-4 keeps a rate as a fraction of 16 bits: 239.823 is none, 239.82 is
            rate = frame.rate or 0.0
            for written in dict.fromkeys((rate, *(round(rate, digits) for digits in (2, 1, 0)))):
                self.video = cv2.VideoWriter(str(self.out), codec, max(written, 1.0), picture.size)
                if self.video.isOpened():
                    break
            else:
                raise DataError(
                    f"{self.out}: OpenCV can't write a video of {rate:g} frames per second and "
                    f"{picture.width} x {picture.height} pixels there"
                )
            if written != rate:
                log.warning("%s: written at %g frames per second for %g", self.out, written, rate)
        self.video.write(np.asarray(picture)[..., ::-1].copy())


def is_folder(out: Path) -> bool:
    """Whether drawn answers go into a folder of this name, by its suffix.

    Raises UsageError for a suffix that is neither a picture's nor a video's of ours, unless the
    folder is there already.
    """
    suffix = out.suffix.lower()
    if suffix in (*_PICTURE_OUT, *_VIDEO_OUT):
        return False
    if suffix and not out.is_dir():
        raise UsageError(
            f"--out {out}: a picture is written as {', '.join(_PICTURE_OUT)}, a video as "
            f"{', '.join(_VIDEO_OUT)}; for a folder of that name, make it first"
        )
    return True


def drawn_over(folder: Path, sources: Sequence[Source]) -> list[Path]:
    """The files in a folder that a gallery of these sources would write over."""
    return overwritten(folder, sources, ".png", {_OVERVIEW})


def overwritten(
    folder: Path, sources: Sequence[Source], suffix: str, more: Iterable[str]
) -> list[Path]:
    """The files in a folder that would be written over.

    Args:
        folder: need not be there. sources: what is to have a file each by `free_name`, a video
            one per frame. suffix: of these. more: names of other files.
    """
    if not folder.is_dir():
        return []
    names, films = set(more), []
    for source in sources:
        if source.moving:
            first = free_name(source.name, 0, suffix, set())
            films.append(glob.escape(first.removesuffix(f"000000{suffix}")) + f"[0-9]*{suffix}")
        else:
            free_name(source.name, None, suffix, names)
    return [
        file
        for file in sorted(folder.iterdir())
        if file.name in names or any(fnmatchcase(file.name, film) for film in films)
    ]


def free_name(name: str, number: int | None, suffix: str, taken: set[str]) -> str:
    """A file's name for what is said of a picture or frame, put into `taken`.

    Photos of the same name in two folders must not overwrite each other.
    """
    stem = Path(name).stem.replace(":", "-") or "stream"
    if number is not None:
        stem = f"{stem}-{number:06d}"
    free, k = f"{stem}{suffix}", 1
    while free in taken:
        k += 1
        free = f"{stem}-{k}{suffix}"
    taken.add(free)
    return free
