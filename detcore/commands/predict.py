"""detcore predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from detcore.commands.exit_codes import plain_errors
from detcore.commands.options import (
    DATA,
    DATA_HELP,
    MACHINE,
    MODEL,
    OUTPUT,
    Checkpoint,
    Device,
    JsonOut,
    Names,
    Optimize,
    PublishedModel,
    Threads,
    Weights,
    examples,
)
from detcore.utils.printing import console, say

if TYPE_CHECKING:
    from torch import nn

    from detcore.checkpoints.checkpoint import CheckpointInfo
    from detcore.inference.export_formats import Save
    from detcore.inference.input_sources import Frame, Source
    from detcore.inference.predict_loop import Settings
    from detcore.inference.tiles import Tiles
    from detcore.utils.json_types import Json

EXAMPLES = examples(
    "detcore predict photo.jpg --checkpoint runs/mine --out picture.png --json boxes.json",
    "detcore predict photos/ --model ssd300_vgg16 --weights torchvision --out found",
    "detcore predict large.jpg --checkpoint runs/mine --tiles --out picture.png",
    "detcore predict video.mp4 --checkpoint runs/mine --out tracked.mp4",
)


def predict_command(
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, folders of pictures, patterns such as 'a/*.jpg', videos, camera:0, or "
            "the address of a stream."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    model: PublishedModel = None,
    weights: Weights = None,
    names: Names = None,
    score: Annotated[
        float | None,
        typer.Option(
            help="Lowest confidence to report. Default: 0.5; for multi-label classifiers the "
            "model's own thresholds.",
            min=0,
            max=1,
            rich_help_panel=MODEL,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Number of classes that a classifier names, best first.",
            min=1,
            rich_help_panel=MODEL,
        ),
    ] = None,
    tiles: Annotated[
        bool,
        typer.Option(
            "--tiles",
            help="For small objects in large photos: detect in overlapping tiles too.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    tile_size: Annotated[
        int | None,
        typer.Option(
            help="With --tiles: side of a tile, pixels. Default: 640.",
            min=32,
            rich_help_panel=MODEL,
        ),
    ] = None,
    tile_overlap: Annotated[
        float | None,
        typer.Option(
            help="With --tiles: share of a tile that its neighbour covers too. Default: 0.2.",
            min=0,
            max=0.9,
            rich_help_panel=MODEL,
        ),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Test-time augmentation: detect in four views of each picture, mirrored and "
            "smaller ones too, and fuse what is found. Takes four times as long.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Take pictures from a data set instead: " + DATA_HELP, rich_help_panel=DATA
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of --data. Default: val.",
            metavar="[train|val|test|all]",
            rich_help_panel=DATA,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            help="Number of pictures to take from --data. Default: 8.",
            min=1,
            rich_help_panel=DATA,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="Stop after this many frames of each video or camera.",
            min=1,
            rich_help_panel=DATA,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Draw the result: a .png or .jpg for one photo, .mp4 or .avi for one video, "
            "otherwise a folder.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json_out: JsonOut = None,
    save: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the results to this file; yolo and dota: to a folder, where no .txt file "
            "is replaced. Several times for several formats.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Format of --save, one for each. Default: csv for a file that ends in .csv, "
            "otherwise json.",
            metavar="[json|coco|yolo|csv|dota]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            help="Pictures per forward pass; 1 for a camera.", min=1, rich_help_panel=MACHINE
        ),
    ] = 8,
    optimize: Optimize = "no",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Find and name objects in photos, videos or a camera; draw them, and write them to a file.

    In videos each object keeps its number from frame to frame. A camera ends with --frames or
    Ctrl-C.
    """
    with plain_errors():
        from detcore.checkpoints.load_model import open_model
        from detcore.commands.output_paths import inputs_of
        from detcore.commands.threads import set_threads
        from detcore.inference.export_formats import saves_of
        from detcore.inference.predict_loop import Settings

        set_threads(threads)
        _check_flags(photos, data, split, count)
        net, info = open_model(checkpoint, model, weights, names, device=device, speed=optimize)
        _set_classifier(net, info, top_k, score)
        cut = _tiles(info, tile_size, tile_overlap, wanted=tiles)
        if tta:
            _check_tta(info, tiles)
        saves = saves_of(save or [], form or [], info.task)
        work = (
            _of_data(info, data, split or "val", count or 8)
            if data
            else _of_files(photos or [], frames)
        )
        read = inputs_of(checkpoint, weights, names, data=data)
        _check_places(work, info, read, out=out, saves=saves, json_out=json_out)
        settings = Settings(
            score=0.5 if score is None else score,
            batch_size=1 if work.endless else batch_size,
            tiles=cut,
            views=tta,
            endless=work.endless,
        )
        answers = _predicted(net, info, work, settings, out)
        _write(answers, info, work, json_out, saves)


def _check_flags(
    photos: list[str] | None, data: str | None, split: str | None, count: int | None
) -> None:
    """Raise UsageError unless it is plain where the pictures come from."""
    from detcore.utils.errors import UsageError

    if bool(photos) == bool(data):
        raise UsageError("give photos, or --data")
    for option, given in (("--split", split), ("--count", count)):
        if given is not None and not data:
            raise UsageError(f"{option} needs --data, of which it is")


def _set_classifier(
    net: nn.Module, info: CheckpointInfo, top_k: int | None, score: float | None
) -> None:
    """What a classifier is to name; UsageError where the model names no classes so."""
    from detcore.commands.model_data import name_above, name_best

    if top_k:
        name_best(net, top_k)
    if score is not None and info.task != "detection":
        name_above(net, score)


@dataclass(frozen=True)
class _Work:
    """What is to be predicted.

    files: that the frames are read from. category_ids: a data set's own, by class.
    """

    frames: Iterator[Frame]
    sources: list[Source]
    files: list[Path]
    category_ids: dict[str, int] | None = None

    @property
    def videos(self) -> int:
        return sum(source.moving for source in self.sources)

    @property
    def endless(self) -> bool:
        return any(source.endless for source in self.sources)


def _of_data(info: CheckpointInfo, data: str, split: str, count: int) -> _Work:
    from detcore.commands.model_data import data_for
    from detcore.data import DetectionDataset
    from detcore.inference.input_sources import frames_of, sources_of

    dataset = data_for(info, data, split, count)
    sources = sources_of(dataset, split, count)
    files = [path for k in range(len(sources)) if (path := dataset.path(k)) is not None]
    category_ids = None
    if isinstance(dataset, DetectionDataset):
        category_ids = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    return _Work(frames_of(dataset, split, count), sources, files, category_ids)


def _of_files(photos: list[str], limit: int | None) -> _Work:
    from detcore.inference.input_sources import find_sources, read_frames

    found = find_sources(photos)
    files = [Path(source.name) for source in found if not source.endless]
    return _Work(read_frames(found, limit), found, files)


def _predicted(
    net: nn.Module, info: CheckpointInfo, work: _Work, settings: Settings, out: Path | None
) -> list[Json]:
    """Predict, draw into `out`, and say what was found and where it is drawn."""
    from detcore.inference.output_writer import Gallery
    from detcore.inference.predict_loop import annotate

    with (
        Gallery(out, info.classes, pictures=len(work.sources), videos=work.videos) as gallery,
        console.status("predicting") as status,
    ):
        answers = annotate(
            net,
            info,
            work.frames,
            settings=settings,
            gallery=gallery,
            say=say,
            show=lambda text: status.update(Text(text)),
            total=None if work.videos else len(work.sources),
        )
    if out:
        single = "the video is" if gallery.is_video else "the picture is"
        say(f"{'pictures are in' if gallery.is_folder else single} {out}")
    return answers


def _write(
    answers: list[Json],
    info: CheckpointInfo,
    work: _Work,
    json_out: Path | None,
    saves: list[Save],
) -> None:
    from detcore.inference.export_formats import write_answers
    from detcore.utils.atomic_write import write_json

    if json_out:
        write_json(json_out, answers)
    for one in saves:
        write_answers(one, answers, info.classes, category_ids=work.category_ids)


def _tiles(
    info: CheckpointInfo, size: int | None, overlap: float | None, *, wanted: bool
) -> Tiles | None:
    from detcore.commands.model_data import tiles_for
    from detcore.utils.errors import UsageError

    if wanted:
        return tiles_for(info, size or 640, 0.2 if overlap is None else overlap)
    for option, given in (("--tile-size", size), ("--tile-overlap", overlap)):
        if given is not None:
            raise UsageError(f"{option} needs --tiles")
    return None


def _check_tta(info: CheckpointInfo, tiles: bool) -> None:
    from detcore.commands.model_data import check_views
    from detcore.utils.errors import UsageError

    if tiles:
        raise UsageError("give --tta or --tiles, not both")
    check_views(info)


def _check_places(
    work: _Work,
    info: CheckpointInfo,
    read: list[Path],
    *,
    out: Path | None,
    saves: list[Save],
    json_out: Path | None,
) -> None:
    """Raise UsageError for what can't be written, or would overwrite what is read."""
    from detcore.commands.output_paths import check_not_read, check_outputs
    from detcore.inference.export_formats import IN_FOLDERS, check_texts
    from detcore.inference.output_writer import drawn_over, is_folder

    read = [*read, *work.files]
    files: dict[str, Path | None] = {"--json": json_out}
    folders: dict[str, Path | None] = {}
    if out:
        (folders if is_folder(out) else files)["--out"] = out
    for k, save in enumerate(saves, start=1):
        option = "--save" if k == 1 else f"--save number {k}"
        (folders if save.form in IN_FOLDERS else files)[option] = save.path
    check_outputs(files=files, folders=folders, inputs=read)
    if out and "--out" in folders:
        check_not_read("--out", drawn_over(out, work.sources), read)
    for save in saves:
        if save.form in IN_FOLDERS:
            check_texts(save, work.sources, info.classes)
