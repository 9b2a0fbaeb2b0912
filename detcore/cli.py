"""The command line: detcore train | eval | predict | data check | bench | info.

What a user can get wrong ends in one sentence and exit code 2. Heavy packages are imported inside
the commands, so that ``detcore --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.table import Table

    from detcore.commands import evaluate, predict
    from detcore.commands.options import DATA_HELP, Data, Device, JsonOut, Seed
    from detcore.terminal import console
    from detcore.terminal import plain_errors as _plain_errors
    from detcore.terminal import say as _say
except ImportError as missing:
    raise SystemExit(
        f"detcore's command line needs {missing.name}: pip install 'detcore[models]'"
    ) from missing

app = typer.Typer(
    help="Train, measure and use detectors made of detcore's ops.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command()
def train(
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
    minutes: Annotated[
        float | None, typer.Option(help="Time limit; the schedule ends with it.", min=0.01)
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.", min=0)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimizer.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.", min=1)] = 16,
    image_size: Annotated[
        int | None, typer.Option(help="Longer side inside the model, pixels.", min=32)
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model with features.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Fetch timm's weights for the backbone.")
    ] = False,
    option: Annotated[
        list[str] | None, typer.Option(help="Further model option, NAME=JSON; repeatable.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    lr: Annotated[float, typer.Option(help="Highest learning rate.", min=0)] = 2e-3,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.02,
    warmup: Annotated[float, typer.Option(help="Share of the run.", min=0, max=1)] = 0.05,
    clip: Annotated[float, typer.Option(help="Gradient norm limit; 0: none.", min=0)] = 10.0,
    ema: Annotated[
        float, typer.Option(help="Decay of averaged weights, such as 0.998; 0: none.", min=0)
    ] = 0.0,
    augment: Annotated[bool, typer.Option(help="Flip, scale and colour jitter.")] = True,
    upside_down: Annotated[
        bool, typer.Option("--upside-down", help="Flip top to bottom too (microscopy, aerial).")
    ] = False,
    mosaic: Annotated[
        float, typer.Option(help="Share of pictures made of four.", min=0, max=1)
    ] = 0.0,
    crops: Annotated[
        float, typer.Option(help="Share of pictures cropped as SSD does.", min=0, max=1)
    ] = 0.0,
    group_aspect: Annotated[
        bool, typer.Option("--group-aspect", help="Batches of like aspect ratio: less padding.")
    ] = False,
    max_damaged: Annotated[
        float, typer.Option(help="Share of damaged pictures to skip, not end at.", min=0, max=1)
    ] = 0.05,
    eval_every: Annotated[
        float, typer.Option(help="Epochs between evaluations; 0: at the end alone.", min=0)
    ] = 0,
    workers: Annotated[int, typer.Option(help="Loader processes.", min=0)] = 0,
    precision: Annotated[
        str, typer.Option(help="no, bf16, fp16, or auto: bf16 where the machine has it.")
    ] = "no",
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train a model; without --minutes, --epochs or --steps for 10 epochs."""
    with _plain_errors():
        from detcore.data.transforms import Augment
        from detcore.engine import jobs
        from detcore.engine.plots import loss_curve
        from detcore.engine.report import TrainProgress, headline, summary
        from detcore.engine.train import TrainConfig, fast_precision
        from detcore.engine.train import train as run

        jobs.one_of("--precision", precision, ("no", "bf16", "fp16", "auto"))
        jobs.one_of("--optimizer", optimizer, ("adamw", "sgd"))
        jobs.checked_device(device)
        if not overwrite and any(out.glob("*.safetensors")):
            raise jobs.UsageError(f"{out} holds a run already; give another --out, or --overwrite")
        if minutes is None and epochs is None and steps is None:
            epochs = 10
        chosen: dict[str, Any] = {"spec": data, "seed": seed}
        if data == "digits":
            classify = model == "classifier"
            chosen["task"] = "classification" if classify else "detection"
            # at the data's own size: enlarging small pictures only costs time
            chosen["size"] = image_size = image_size or (64 if classify else 128)
        options = jobs.model_options(option or [], backbone, image_size, pretrained)
        if model == "cascade":
            options.pop("image_size", None)  # it works at each picture's own size
        config = TrainConfig(
            epochs=epochs,
            steps=steps,
            minutes=minutes,
            batch_size=batch_size,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            warmup=warmup,
            clip=clip,
            ema=ema,
            seed=seed,
            eval_every=eval_every,
            workers=workers,
            device=device,
            precision=fast_precision(device) if precision == "auto" else precision,
            group_aspect=group_aspect,
            max_damaged=max_damaged,
            data=chosen,
        )
        dataset = jobs.open_data(data, "train", chosen)
        val = jobs.validation_data(dataset, val_data, chosen, _say)
        net = jobs.create_model(model, dataset, options, seed)
        light = Augment(upside_down=0.5 if upside_down else 0.0) if augment else None
        console.print(summary(net, dataset, val, config, out))
        with TrainProgress(console, batch_size) as watcher:
            result = run(
                net,
                dataset,
                config,
                out=out,
                val=val,
                augment=jobs.augmentation(net, dataset, light, mosaic=mosaic, crops=crops),
                watcher=watcher,
            )
        loss_curve(out / "log.csv", out / "loss.png")
        if result.metrics:
            jobs.write_json(out / "metrics.json", result.metrics)
        ended = "interrupted after" if result.interrupted else "done:"
        took = f"{result.steps} steps in {result.seconds / 60:.1f} minutes"
        _say(f"{ended} {took}  {headline(result.metrics)}")
        _say(f"checkpoints, log.csv and loss.png are in {out}")


app.command("eval")(evaluate.evaluate_command)
app.command("predict")(predict.predict_command)


@data_app.command("check")
def data_check(
    path: Annotated[str, typer.Argument(help=DATA_HELP)],
    split: Annotated[
        str | None, typer.Option(help="train, val, test or all; default: every one it has.")
    ] = None,
    json_out: JsonOut = None,
) -> None:
    """Count, measure and decode a whole data set, and list all that is wrong with it.

    Ends with code 1 if there are errors, with 0 if there are warnings alone.
    """
    with _plain_errors():
        from detcore.data import check_tables
        from detcore.data.check import check
        from detcore.engine.jobs import write_json

        with console.status("reading") as status:
            found = check(path, split, lambda n, of: status.update(f"decoding {n}/{of}"))
        for table in check_tables.tables(found):
            console.print(table)
        _say(check_tables.headline(found))
        if json_out:
            write_json(json_out, found)
        if found["errors"]:
            raise typer.Exit(1)


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
