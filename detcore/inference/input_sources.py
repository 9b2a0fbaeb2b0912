"""What predict works on: pictures, videos and cameras, frame by frame."""

from __future__ import annotations

import glob
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detcore.data import AnyDataset, DamagedImage, DataError, DetectionDataset, read_image
from detcore.data.images import IMAGE_SUFFIXES
from detcore.utils.errors import UsageError
from detcore.utils.optional_imports import require

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")

log = logging.getLogger(__name__)

_CAMERA = "camera:"
_STREAMS = ("rtsp://", "rtmp://", "http://", "https://")
_RATE = 25.0  # frames a second, of a video that doesn't say


class Frame(NamedTuple):
    """A picture, or one of a video's.

    number: of the frame, from 0; rate: frames per second. image_id: in the data set it is of.
    """

    name: str  # of the file or stream
    image: Tensor  # uint8 [3, H, W], RGB
    number: int | None = None
    rate: float | None = None
    image_id: int | None = None


@dataclass(frozen=True)
class Source:
    """A picture's or video's file, or a stream.

    moving: a video or stream. endless: it ends when somebody ends it. by_chance: a folder or
    pattern brought it in, so a picture that is damaged is left out instead of ending the work.
    """

    name: str
    moving: bool = False
    endless: bool = False
    by_chance: bool = False


def find_sources(given: Sequence[str]) -> list[Source]:
    """What a command's arguments name, in their order.

    Args:
        given: files; folders, for the pictures in them, by name; patterns such as
            ``photos/**/*.jpg``, for the pictures and videos that match, by name; ``camera:0`` and
            addresses (rtsp, rtmp, http, https) for streams. A file is a video by its suffix.

    Raises:
        UsageError: a folder without pictures, or a pattern that nothing matches.
        MissingPackage: a video or stream, and OpenCV is not installed.
    """
    found: list[Source] = []
    for text in given:
        path = Path(text)
        if text.startswith((_CAMERA, *_STREAMS)):
            found.append(Source(text, moving=True, endless=True))
        elif path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UsageError(f"no pictures in {text}")
            found += [_of_file(f, by_chance=True) for f in inside]
        elif path.exists() or not glob.has_magic(text):
            found.append(_of_file(path))
        else:
            known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
            matching = (Path(f) for f in sorted(glob.glob(text, recursive=True)))
            inside = [f for f in matching if f.suffix.lower() in known and f.is_file()]
            if not inside:
                raise UsageError(f"no pictures or videos match {text}")
            found += [_of_file(f, by_chance=True) for f in inside]
    if any(source.moving for source in found):
        opencv()
    return found


def read_frames(sources: Sequence[Source], limit: int | None = None) -> Iterator[Frame]:
    """Their pictures, one by one, so that neither a folder nor a video needs to fit into memory.

    A damaged picture out of a folder or pattern is left out and named in the log.

    limit: frames of each video or stream.

    Raises:
        DataError: a file given by its name is missing or can't be read, or a video can't be.
    """
    for source in sources:
        if source.moving:
            yield from _read_video(source, limit)
            continue
        try:
            image = read_image(Path(source.name))
        except DamagedImage as error:
            if not source.by_chance:
                raise
            log.warning("%s; left out", error)
            continue
        yield Frame(source.name, image)


def frames_of(dataset: AnyDataset, split: str, count: int) -> Iterator[Frame]:
    """The first `count` pictures of a data set, by file name where it has them.

    A damaged one is left out and named in the log.
    """
    for k, source in enumerate(sources_of(dataset, split, count)):
        image_id = dataset.record(k).image_id if isinstance(dataset, DetectionDataset) else None
        try:
            image = dataset[k][0]
        except DamagedImage as error:
            log.warning("%s; left out", error)
            continue
        yield Frame(source.name, image, image_id=image_id)


def sources_of(dataset: AnyDataset, split: str, count: int) -> list[Source]:
    """The first `count` pictures of a data set, named as `frames_of` names them."""
    indices = range(min(count, len(dataset)))
    if isinstance(dataset, DetectionDataset):
        return [Source(dataset.record(k).file_name) for k in indices]
    return [Source(f"{split}-{k:03d}") for k in indices]


def opencv() -> Any:
    """The module cv2; raises MissingPackage where it isn't installed."""
    return require("cv2", "opencv-python-headless", extra="video")


def _of_file(path: Path, by_chance: bool = False) -> Source:
    moving = path.suffix.lower() in VIDEO_SUFFIXES
    return Source(str(path), moving=moving, by_chance=by_chance)


def _read_video(source: Source, limit: int | None) -> Iterator[Frame]:
    cv2, name = opencv(), source.name
    address: str | int = name
    if name.startswith(_CAMERA):
        number = name.removeprefix(_CAMERA)
        if not number.isdecimal():
            raise UsageError(f"a camera is camera:NUMBER, such as camera:0, got {name}")
        address = int(number)
    elif not source.endless and not Path(name).is_file():
        raise DataError(f"{name}: no such video")
    capture, count = cv2.VideoCapture(address), 0
    try:
        if not capture.isOpened():
            raise DataError(f"{name}: OpenCV can't open it")
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(rate) and rate > 0):
            rate = _RATE
        while limit is None or count < limit:
            there, pixels = capture.read()
            if not there:
                break
            # OpenCV's order is BGR, [H, W, 3]
            image = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1).contiguous()
            yield Frame(name, image, count, rate)
            count += 1
        if not count:
            raise DataError(f"{name}: no frame of it could be read")
    finally:
        capture.release()
