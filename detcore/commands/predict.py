"""detcore predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detcore.commands.options import (
    DATA_HELP,
    Checkpoint,
    Device,
    JsonOut,
    Names,
    Optimize,
    PublishedModel,
    Weights,
)
from detcore.terminal import console, plain_errors, say

if TYPE_CHECKING:
    from detcore.engine.checkpoint import CheckpointInfo
    from detcore.engine.sources import Frame


def predict_command(
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, folders of them, patterns, videos, camera:0, or a stream's address."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    model: PublishedModel = None,
    weights: Weights = None,
    names: Names = None,
    data: Annotated[
        str | None, typer.Option(help="Take pictures from a data set instead: " + DATA_HELP)
    ] = None,
    split: Annotated[str, typer.Option(help="Of --data.")] = "val",
    count: Annotated[int, typer.Option(help="How many of --data.", min=1)] = 8,
    out: Annotated[
        Path | None,
        typer.Option(help="A .png or .jpg for one photo, .mp4 or .avi for one video, else folder."),
    ] = None,
    score: Annotated[float, typer.Option(help="Least confidence.", min=0, max=1)] = 0.5,
    top_k: Annotated[
        int | None, typer.Option(help="Of a classifier: how many of the best classes.", min=1)
    ] = None,
    tiles: Annotated[
        bool,
        typer.Option("--tiles", help="Small objects in large photos: detect in overlapping tiles."),
    ] = False,
    tile_size: Annotated[
        int, typer.Option(help="With --tiles: a tile's side, pixels.", min=32)
    ] = 640,
    tile_overlap: Annotated[
        float, typer.Option(help="With --tiles: share that the next sees too.", min=0, max=0.9)
    ] = 0.2,
    batch_size: Annotated[
        int, typer.Option(help="Pictures a call of the model; of a camera 1.", min=1)
    ] = 8,
    frames: Annotated[
        int | None, typer.Option(help="Frames of each video or camera at most.", min=1)
    ] = None,
    json_out: JsonOut = None,
    save: Annotated[
        Path | None, typer.Option(help="Write what is found here, in --format; a folder for yolo.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of --save: json, coco, yolo (texts) or csv.")
    ] = "json",
    optimize: Optimize = "no",
    device: Device = "auto",
) -> None:
    """Find objects in photos and videos, or name what they show: pictures and data come out.

    In videos objects keep a number from frame to frame. A camera ends with --frames or Ctrl-C.
    """
    with plain_errors():
        from detcore.engine import jobs
        from detcore.engine.annotate import Settings, annotate
        from detcore.engine.answers import check_format, write_answers
        from detcore.engine.gallery import Gallery
        from detcore.engine.opening import open_model

        if bool(photos) == bool(data):
            raise jobs.UsageError("give photos, or --data")
        net, info = open_model(checkpoint, model, weights, names, device=device, speed=optimize)
        if top_k:
            jobs.name_best(net, top_k)
        cut = jobs.tiles_for(info, tile_size, tile_overlap) if tiles else None
        check_format(form, save, info.task)
        work = _of_data(info, data, split, count) if data else _of_files(photos or [], frames)
        settings = Settings(
            score=score,
            batch_size=1 if work.endless else batch_size,
            tiles=cut,
            endless=work.endless,
        )
        with (
            Gallery(out, info.classes, pictures=work.total, videos=work.videos) as gallery,
            console.status("predicting") as status,
        ):
            answers = annotate(
                net,
                info,
                work.frames,
                settings=settings,
                gallery=gallery,
                say=say,
                show=status.update,
                total=None if work.videos else work.total,
            )
        if out:
            say(f"{'the video is' if gallery.is_video else 'pictures are in'} {out}")
        if json_out:
            jobs.write_json(json_out, answers)
        if save:
            write_answers(save, form, answers, info.classes, category_ids=work.category_ids)


@dataclass(frozen=True)
class _Work:
    """What is to be predicted. total: files, or pictures of a data set; videos: of the files.

    category_ids: the data set's own, by class.
    """

    frames: Iterator[Frame]
    total: int
    videos: int = 0
    endless: bool = False
    category_ids: dict[str, int] | None = None


def _of_data(info: CheckpointInfo, data: str, split: str, count: int) -> _Work:
    from detcore.data import DetectionDataset
    from detcore.engine.jobs import data_for
    from detcore.engine.sources import frames_of

    dataset = data_for(info, data, split, count)
    frames, total = frames_of(dataset, split, count), min(count, len(dataset))
    if not isinstance(dataset, DetectionDataset):
        return _Work(frames, total)
    category_ids = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    return _Work(frames, total, category_ids=category_ids)


def _of_files(photos: list[str], limit: int | None) -> _Work:
    from detcore.engine.sources import find_sources, read_frames

    found = find_sources(photos)
    return _Work(
        read_frames(found, limit),
        len(found),
        videos=sum(source.moving for source in found),
        endless=any(source.endless for source in found),
    )
