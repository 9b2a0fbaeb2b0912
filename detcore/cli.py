"""The command line: detcore train | eval | predict | bench | info.

What a user can get wrong ends in one sentence and exit code 2. Heavy packages are imported inside
the commands, so that ``detcore --help`` answers at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError as missing:
    raise SystemExit(
        f"detcore's command line needs {missing.name}: pip install 'detcore[models]'"
    ) from missing

from detcore import train_flags as flags

app = typer.Typer(
    help="Train, measure and use detectors made of detcore's ops.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()
errors = Console(stderr=True)

_DATA_HELP = (
    "'digits' (built in), a COCO .json, or a folder: COCO, VOC, or one folder of pictures a class."
)
Data = Annotated[str, typer.Option("--data", help=_DATA_HELP)]
Checkpoint = Annotated[
    Path, typer.Option(help="A run's folder (best, else last) or a .safetensors file.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Seed of the data and of all randomness.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Write the result here as JSON.")]


def _from_file(ctx: typer.Context, file: Path | None) -> Path | None:
    """Let a file's settings stand in for the command's defaults; flags go over them."""
    if file is not None:
        with _plain_errors():
            ctx.default_map = flags.settings_in(file, ctx, get_type_hints(train))
    return file


def _from_run(ctx: typer.Context, folder: Path | None) -> Path | None:
    """Let a run's own settings stand in for the command's defaults."""
    if folder is not None:
        _from_file(ctx, folder / "config.yaml")
        ctx.default_map = {**(ctx.default_map or {}), "out": str(folder)}
    return folder


@app.command()
def train(
    ctx: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            is_eager=True,
            callback=_from_file,
            help="YAML of flags and values, such as a run's config.yaml; flags go over it.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            callback=_from_run,
            help="Go on with the run in this folder, as it was begun.",
        ),
    ] = None,
    data: Data = "digits",
    model: Annotated[
        str, typer.Option(help="faster_rcnn, ssd, yolo, classifier or cascade.")
    ] = "ssd",
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and curve.")] = Path(
        "runs/train"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that --out holds.")
    ] = False,
    val_data: Annotated[
        str | None, typer.Option(help="Where to evaluate; default: the data's own val split.")
    ] = None,
    minutes: flags.Minutes = None,
    epochs: flags.Epochs = None,
    steps: flags.Steps = None,
    batch_size: flags.BatchSize = 16,
    accumulate: flags.Accumulate = 1,
    image_size: flags.ImageSize = None,
    backbone: flags.Backbone = None,
    pretrained: flags.Pretrained = False,
    option: flags.ModelOption = None,
    optimizer: flags.Optimizer = "adamw",
    lr: flags.LearningRate = 2e-3,
    weight_decay: flags.WeightDecay = 0.02,
    momentum: flags.Momentum = 0.9,
    nesterov: flags.Nesterov = True,
    warmup: flags.Warmup = 0.05,
    drop_at: flags.DropAt = None,
    clip: flags.Clip = 10.0,
    ema: flags.Ema = 0.0,
    freeze_norms: flags.FreezeNorms = False,
    augment: Annotated[bool, typer.Option(help="Flip, scale and colour jitter.")] = True,
    upside_down: Annotated[
        bool, typer.Option("--upside-down", help="Flip top to bottom too (microscopy, aerial).")
    ] = False,
    eval_every: flags.EvalEvery = 0,
    patience: flags.Patience = 0,
    save_minutes: flags.SaveMinutes = 1.0,
    save_steps: flags.SaveSteps = 0,
    log_every: flags.LogEvery = 10,
    tensorboard: flags.TensorBoard = False,
    workers: flags.Workers = 0,
    precision: flags.Precision = "no",
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train a model; without --minutes, --epochs or --steps for 10 epochs.

    Started by torchrun or accelerate launch, all processes train one model.
    """
    with _plain_errors():
        from detcore.data.transforms import Augment
        from detcore.engine import jobs
        from detcore.engine.config import TrainConfig
        from detcore.engine.devices import (
            disband,
            fast_precision,
            is_main_process,
            process_count,
        )
        from detcore.engine.log import summary_writer
        from detcore.engine.report import TrainProgress, summary
        from detcore.engine.train import train as run

        console.quiet = not is_main_process()
        jobs.one_of("--precision", precision, ("no", "bf16", "fp16", "auto"))
        jobs.one_of("--optimizer", optimizer, ("adamw", "sgd"))
        jobs.checked_device(device)
        if config_file and resume:
            raise jobs.UsageError("give --config or --resume, not both")
        settings = {name: ctx.params[name] for name in flags.settings_of(ctx)}
        if resume:
            given = {k: settings[k] for k in flags.given(ctx) if k in settings}
            jobs.check_unchanged(resume, ctx.default_map or {}, given)
        elif is_main_process():
            jobs.check_free(out, overwrite)
        if minutes is None and epochs is None and steps is None:
            settings["epochs"] = 10.0
        chosen: dict[str, Any] = {"spec": data, "seed": seed}
        if data == "digits":
            classify = model == "classifier"
            chosen["task"] = "classification" if classify else "detection"
            # at the data's own size: enlarging small pictures only costs time
            chosen["size"] = image_size = image_size or (64 if classify else 128)
        fetched = pretrained and not (resume and jobs.is_saved(resume))
        options = jobs.model_options(option or [], backbone, image_size, fetched)
        if model == "cascade":
            options.pop("image_size", None)  # it works at each picture's own size
        settings |= {
            "image_size": image_size,
            "precision": fast_precision(device) if precision == "auto" else precision,
        }
        config = TrainConfig.of(settings, chosen)
        config.check()
        if tensorboard:
            summary_writer()
        dataset = jobs.open_data(data, "train", chosen)
        val = jobs.validation_data(dataset, val_data, chosen, _say)
        net = jobs.create_model(model, dataset, options, seed)
        if not resume and is_main_process():
            jobs.begin_run(out, settings)
        light = Augment(upside_down=0.5 if upside_down else 0.0) if augment else None
        console.print(summary(net, dataset, val, config, out))
        with TrainProgress(console, config.images_a_step(process_count())) as watcher:
            result = run(
                net,
                dataset,
                config,
                out=out,
                val=val,
                augment=jobs.augmentation(net, dataset, light),
                watcher=watcher,
                resume=resume is not None,
            )
        disband()
        if is_main_process():
            jobs.conclude(out, result, _say)


@app.command("eval")
def evaluate_command(
    checkpoint: Checkpoint,
    data: Annotated[
        str | None, typer.Option(help=_DATA_HELP + " Default: what it was trained on.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    score: Annotated[
        float, typer.Option(help="Confidence for precision and recall.", min=0, max=1)
    ] = 0.5,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate on N pictures; digits only.", min=1)
    ] = None,
    json_out: JsonOut = None,
    device: Device = "auto",
) -> None:
    """Measure a checkpoint on a data set and print a table."""
    with _plain_errors():
        from detcore.engine import jobs
        from detcore.engine.evaluate import evaluate
        from detcore.engine.report import headline, metrics_table

        net, info = jobs.load_model(checkpoint, device)
        if limit and (data or info.data.get("spec")) != "digits":
            raise jobs.UsageError("--limit is for digits, which are made to any number")
        dataset = jobs.data_for(info, data, split, limit)
        with console.status("evaluating") as status:
            metrics = evaluate(
                net,
                dataset,
                device=next(net.parameters()).device,
                batch_size=batch_size,
                score=score,
                progress=lambda done, of: status.update(f"evaluating {done}/{of}"),
            )
        console.print(metrics_table(metrics, f"{data or info.data.get('spec')} ({split})"))
        _say(
            f"{headline(metrics)}  ({metrics['images']} images, "
            f"{metrics['images_per_second']} images/s)"
        )
        if json_out:
            jobs.write_json(json_out, {"checkpoint": str(checkpoint), "split": split, **metrics})


@app.command()
def predict(
    checkpoint: Checkpoint,
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, or folders of them.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Take pictures from a data set instead: " + _DATA_HELP)
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
    device: Device = "auto",
) -> None:
    """Find objects in photos, or name what they show: annotated pictures and JSON come out."""
    with _plain_errors():
        from detcore.engine import jobs

        if bool(photos) == bool(data):
            raise jobs.UsageError("give photos, or --data")
        net, info = jobs.load_model(checkpoint, device)
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
                say=_say,
                tiles=cut,
                progress=lambda done, of: status.update(f"predicting, tile {done}/{of}"),
            )
        if out:
            _say(f"pictures are in {out}")
        if json_out:
            jobs.write_json(json_out, answers)


@app.command()
def info() -> None:
    """Print what this build of detcore holds: versions, compilers, targets."""
    with _plain_errors():
        import detcore

        table = Table("", "", show_header=False, title="detcore")
        for key, value in detcore.build_info().items():
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            table.add_row(str(key), shown)
        console.print(table)


@app.command()
def bench(
    op: Annotated[str | None, typer.Option("--op", help="This op only, say nms.")] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Also torch.compile and slow inputs: some minutes."),
    ] = False,
    json_out: JsonOut = None,
) -> None:
    """Compare each op with its rivals on this machine, in under two minutes.

    Against torchvision, and what is installed of powerboxes, OpenVINO, ONNX Runtime and lsnms.

    Results are compared before anything is timed, runs are interleaved, times are medians in ms.
    """
    with _plain_errors():
        from detcore.engine import bench as benchmark
        from detcore.engine.jobs import UsageError

        try:
            benchmark.main(full=full, op=op, json=json_out)
        except ValueError as error:
            raise UsageError(str(error)) from error


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what a user can put right into one sentence and exit code 2; bugs keep their trace."""
    logger = logging.getLogger("detcore")
    if not any(isinstance(h, _Notes) for h in logger.handlers):
        logger.addHandler(_Notes())
    try:
        yield
    except (ImportError, OSError) as error:
        _fail(str(error))
    except (ValueError, RuntimeError) as error:
        from detcore.data import DataError
        from detcore.engine.checkpoint import CheckpointError
        from detcore.engine.config import ConfigError
        from detcore.engine.jobs import UsageError
        from detcore.engine.train import TrainingDiverged

        if isinstance(error, TrainingDiverged):
            _fail(str(error), code=1)
        if not isinstance(error, UsageError | DataError | CheckpointError | ConfigError):
            raise
        _fail(str(error))


def _fail(text: str, code: int = 2) -> NoReturn:
    errors.print("[bold red]error:[/] ", end="")
    errors.print(text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


class _Notes(logging.Handler):
    """The package's warnings, as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        errors.print(f"note: {record.getMessage()}", markup=False, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
