"""Prediction over pictures and videos: what is found is said, drawn and returned."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from torch import nn

from detcore.checkpoints.checkpoint import CheckpointInfo
from detcore.inference.input_sources import Frame
from detcore.inference.output_writer import Gallery
from detcore.inference.predictor import Prediction, predict, to_json
from detcore.inference.tiles import Tiles, predict_tiled
from detcore.inference.tracker import Tracker
from detcore.inference.views import predict_views
from detcore.utils.json_types import Json
from detcore.utils.speed_watch import SpeedWatch
from detcore.utils.text import Say, counted


@dataclass(frozen=True)
class Settings:
    """How to predict.

    score: least confidence. batch_size: pictures per call of the model; models fill pictures of
    different sizes up to one, so what is found may change a little with it. tiles: cut each picture
    into these. views: detect in several views of each. endless: what comes ends with Ctrl-C, after
    which there is still an answer.
    """

    score: float = 0.5
    batch_size: int = 8
    tiles: Tiles | None = None
    views: bool = False
    endless: bool = False


def annotate(
    net: nn.Module,
    info: CheckpointInfo,
    frames: Iterable[Frame],
    *,
    settings: Settings,
    gallery: Gallery,
    say: Say,
    show: Say,
    total: int | None = None,
) -> list[Json]:
    """Predict picture by picture, say what is in each, and give it to the gallery.

    In a video objects keep a number from frame to frame (`Tracker`). A detection of at least half
    of the confidence asked for continues a track, though it isn't shown, and starts none.

    Args:
        net: on its device, in evaluation mode. info: names its classes.
        frames: as `detcore.inference.input_sources` gives them, all of a video in a row.
        say: called with a line per picture or video. show: called with how far it is.
        total: how many pictures come, where that is known.

    Returns:
        `detcore.inference.predictor.to_json`'s answers, each with its ``file``, and of a video with
        ``frame``, from 0, and a ``track`` for each detection; of a data set's with ``image_id``.
        Deterministic on one device.
    """
    loop = _Loop(info, settings, gallery, say, show, total)
    watch = SpeedWatch()
    try:
        for batch in _batches(frames, settings.batch_size):
            started = time.perf_counter()
            predictions = _predicted(net, batch, settings, show)
            if settings.tiles is None:  # a picture of many tiles takes as much longer
                watch.add(len(batch), time.perf_counter() - started)
            for frame, found in zip(batch, predictions, strict=True):
                loop.take(frame, found)
    except KeyboardInterrupt:
        if not settings.endless:
            raise
    loop.video.report(say)
    return loop.answers


class _Loop:
    """What comes of each frame: an answer, a drawing, a line for people. Arguments: `annotate`'s.

    Attributes:
        answers: those so far. video: the one at hand.
    """

    def __init__(
        self,
        info: CheckpointInfo,
        settings: Settings,
        gallery: Gallery,
        say: Say,
        show: Say,
        total: int | None,
    ) -> None:
        self.info, self.settings, self.gallery = info, settings, gallery
        self.say, self.show, self.total = say, show, total
        self.answers: list[Json] = []
        self.video = _Video(settings.score)

    def take(self, frame: Frame, found: Prediction) -> None:
        """Go on with the next frame, of which `found` is all that the model says."""
        if frame.name != self.video.name or frame.number == 0:
            self.video.report(self.say)
            self.video = _Video(self.settings.score, frame.name)
        if frame.number is None:
            self._take_picture(frame, found)
        else:
            answer = self._answer(frame, self.video.follow(found))
            self.video.count(answer)
            self.show(f"predicting {frame.name}, frame {frame.number + 1}")

    def _take_picture(self, frame: Frame, found: Prediction) -> None:
        best = 0.0  # score of what was found, shown or not
        if "boxes" in found:
            best = max(found["scores"].tolist(), default=0.0)
            found = _at_least(found, self.settings.score)
        answer = self._answer(frame, found)
        self.say(f"{frame.name}: {_sentence(answer, best)}")
        self.show(f"predicting {len(self.answers)}/{self.total}" if self.total else "predicting")

    def _answer(self, frame: Frame, found: Prediction) -> Json:
        """Keep and draw what is to be shown of a frame."""
        answer: Json = {"file": frame.name}
        if frame.number is not None:
            answer["frame"] = frame.number
        if frame.image_id is not None:
            answer["image_id"] = frame.image_id
        answer |= to_json(found, self.info.classes, frame.image)
        self.answers.append(answer)
        self.gallery.add(frame, answer)
        return answer


@dataclass
class _Video:
    """What is known of the video at hand."""

    score: float
    name: str = ""
    frames: int = 0
    objects: dict[int, str] = field(default_factory=dict)  # class by number

    def __post_init__(self) -> None:
        self.tracker = Tracker(start=self.score)

    def follow(self, found: Prediction) -> Prediction:
        """The detections that are sure enough, with their ``tracks``."""
        if "boxes" not in found:
            return found
        return _at_least({**found, "tracks": self.tracker.update(found)}, self.score)

    def count(self, answer: Json) -> None:
        self.frames += 1
        for found in answer.get("detections", ()):
            if "track" in found:
                self.objects[found["track"]] = found["class"]

    def report(self, say: Say) -> None:
        if self.frames:
            said = _counted(list(self.objects.values())) or "nothing found"
            say(f"{self.name}: {counted(self.frames, 'frame', 'frames')}, {said}")


def _predicted(
    net: nn.Module, batch: list[Frame], settings: Settings, show: Say
) -> list[Prediction]:
    device = next(net.parameters()).device
    moving = any(frame.number is not None for frame in batch)
    # of pictures all that the model says: how near it came is told where nothing is shown
    score = settings.score / 2 if moving else 0.0
    if settings.tiles is None:
        images = [frame.image for frame in batch]
        look = predict_views if settings.views else predict
        return look(net, images, device=device, batch_size=len(batch), score=score)
    return [
        predict_tiled(
            net,
            frame.image,
            tile=settings.tiles.size,
            overlap=settings.tiles.overlap,
            device=device,
            score=settings.score,
            progress=lambda done, of, name=frame.name: show(  # type: ignore[misc]
                f"predicting {name}, tile {done}/{of}"
            ),
        )
        for frame in batch
    ]


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    waiting = iter(frames)
    while batch := list(islice(waiting, size)):
        yield batch


def _at_least(found: Prediction, score: float) -> Prediction:
    keep = found["scores"] >= score
    return {key: value[keep] for key, value in found.items()}


def _sentence(answer: Json, best: float) -> str:
    if "detections" not in answer:
        named = [f"{c['class']} ({c['score']:.2f})" for c in answer["classes"]]
        return ", ".join(named) or "no class above its threshold"
    said = _counted([found["class"] for found in answer["detections"]])
    if said or not best:
        return said or "nothing found"
    # a weak model finds things that it isn't sure of; rounded down, so that the flag shows one
    lower = math.floor(best * 100) / 100
    return f"nothing found (the best has a score of {best:.2f}; --score {lower:g} shows it)"


def _counted(names: list[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
