"""Where drawn answers go: one picture, a folder of them with an overview, or a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from detcore.data import DataError
from detcore.engine.jobs import UsageError
from detcore.engine.matching import Json
from detcore.engine.plots import draw, overview, save_picture
from detcore.engine.sources import Frame, opencv

_PICTURE_OUT = (".png", ".jpg", ".jpeg", ".webp")
_VIDEO_OUT = {".mp4": "mp4v", ".avi": "MJPG"}  # the codec that OpenCV itself brings for each
_ON_SHEET = 16  # pictures of an overview


class Gallery:
    """Draws answers on their pictures and writes them; a context manager.

    Args:
        out: None for nowhere; a .png, .jpg or .webp for one picture; a .mp4 or .avi for one
            video; else a folder, which gets a PNG a picture or frame, and of several pictures
            ``overview.png`` of the first sixteen.
        classes: all class names, for their colours.
        pictures: how many come. videos: how many of these are videos or streams.

    Raises:
        UsageError: `out` is a picture or video, and what comes is not one.
        DataError: the video can't be written.
    """

    def __init__(
        self, out: Path | None, classes: Sequence[str], *, pictures: int, videos: int = 0
    ) -> None:
        self.out, self.classes = out, classes
        self.suffix = out.suffix.lower() if out else ""
        if self.suffix in _PICTURE_OUT and (pictures > 1 or videos):
            what = f"{pictures} pictures" if not videos else "the frames of a video"
            raise UsageError(f"--out must be a folder for {what}, got {out}")
        if self.is_video and (pictures, videos) != (1, 1):
            raise UsageError(f"--out {out} is for one video, got {pictures} files, {videos} videos")
        self.taken = {"overview.png"}
        self.sheet: list[Image.Image] = []
        self.video: Any = None

    @property
    def is_video(self) -> bool:
        return self.suffix in _VIDEO_OUT

    def __enter__(self) -> Gallery:
        if self.out:
            single = self.suffix in (*_PICTURE_OUT, *_VIDEO_OUT)
            (self.out.parent if single else self.out).mkdir(parents=True, exist_ok=True)
        return self

    def add(self, frame: Frame, answer: Json) -> None:
        """Draw an answer (`detcore.engine.predict.to_json`) and write it."""
        if not self.out:
            return
        picture = draw(frame.image, answer, classes=self.classes)
        if self.is_video:
            self._add_to_video(picture, frame)
        elif self.suffix in _PICTURE_OUT:
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
            save_picture(overview(self.sheet), self.out / "overview.png")

    def _add_to_video(self, picture: Image.Image, frame: Frame) -> None:
        if self.video is None:
            cv2 = opencv()
            codec = cv2.VideoWriter_fourcc(*_VIDEO_OUT[self.suffix])
            self.video = cv2.VideoWriter(str(self.out), codec, frame.rate, picture.size)
            if not self.video.isOpened():
                raise DataError(f"{self.out}: OpenCV can't write a video there")
        self.video.write(np.asarray(picture)[..., ::-1].copy())


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
