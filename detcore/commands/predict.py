"""detcore predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
        from detcore.data import DetectionDataset
        from detcore.engine import jobs, sources
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
        image_ids = category_ids = None
        found: list[sources.Source] = []
        if data:
            dataset = jobs.data_for(info, data, split, count)
            total = min(count, len(dataset))
            pictures = sources.frames_of(dataset, split, count)
            if isinstance(dataset, DetectionDataset):
                image_ids = [dataset.record(k).image_id for k in range(total)]
                category_ids = dict(zip(dataset.classes, dataset.category_ids, strict=True))
        else:
            found = sources.find_sources(photos or [])
            total = len(found)
            pictures = sources.read_frames(found, frames)
        endless = any(source.endless for source in found)
        settings = Settings(
            score=score, batch_size=1 if endless else batch_size, tiles=cut, endless=endless
        )
        videos = sum(source.moving for source in found)
        with (
            Gallery(out, info.classes, pictures=total, videos=videos) as gallery,
            console.status("predicting") as status,
        ):
            answers = annotate(
                net,
                info,
                pictures,
                settings=settings,
                gallery=gallery,
                say=say,
                show=status.update,
                total=None if videos else total,
            )
        if out:
            say(f"{'the video is' if gallery.is_video else 'pictures are in'} {out}")
        if json_out:
            jobs.write_json(json_out, answers)
        if save:
            write_answers(
                save, form, answers, info.classes, image_ids=image_ids, category_ids=category_ids
            )
