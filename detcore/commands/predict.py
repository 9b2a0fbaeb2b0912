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
        list[Path] | None, typer.Argument(help="Pictures, or folders of them.")
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
        Path | None, typer.Option(help="A .png or .jpg for one photo, else a folder.")
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
    json_out: JsonOut = None,
    optimize: Optimize = "no",
    device: Device = "auto",
) -> None:
    """Find objects in photos, or name what they show: annotated pictures and JSON come out."""
    with plain_errors():
        from detcore.engine import jobs
        from detcore.engine.opening import open_model

        if bool(photos) == bool(data):
            raise jobs.UsageError("give photos, or --data")
        net, info = open_model(checkpoint, model, weights, names, device=device, speed=optimize)
        if top_k:
            jobs.name_best(net, top_k)
        cut = jobs.tiles_for(info, tile_size, tile_overlap) if tiles else None
        if data:
            dataset = jobs.data_for(info, data, split, count)
            one_file = jobs.is_one_file(out, min(count, len(dataset)))
            pictures = jobs.pictures_of(dataset, split, count)
        else:
            files = jobs.pictures_in(photos or [])
            one_file = jobs.is_one_file(out, len(files))
            pictures = jobs.read_pictures(files)
        with console.status("predicting") as status:
            answers = jobs.annotate(
                net,
                info,
                pictures,
                out=out,
                one_file=one_file,
                score=score,
                say=say,
                tiles=cut,
                progress=lambda done, of: status.update(f"predicting, tile {done}/{of}"),
            )
        if out:
            say(f"pictures are in {out}")
        if json_out:
            jobs.write_json(json_out, answers)
