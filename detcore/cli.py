"""The command line: detcore train | eval | predict | bench | info.

What a user can get wrong ends in one sentence and exit code 2. Heavy packages are imported inside
the commands, so that ``detcore --help`` answers at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError as missing:
    raise SystemExit(
        f"detcore's command line needs {missing.name}: pip install 'detcore[models]'"
    ) from missing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detcore.data import AnyDataset
    from detcore.data.transforms import Augment
    from detcore.engine.checkpoint import CheckpointInfo
    from detcore.engine.train import TrainConfig

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
        _one_of("--precision", precision, ("no", "bf16", "fp16", "auto"))
        _one_of("--optimizer", optimizer, ("adamw", "sgd"))
        if not overwrite and any(out.glob("*.safetensors")):
            raise _Wrong(f"{out} holds a run already; give another --out, or --overwrite")
        from detcore.engine.train import TrainConfig, fast_precision

        if precision == "auto":
            precision = fast_precision(device)
        if minutes is None and epochs is None and steps is None:
            epochs = 10
        sized: dict[str, Any] = {"spec": data, "seed": seed}
        if data == "digits":
            classify = model == "classifier"
            sized["task"] = "classification" if classify else "detection"
            # at the data's own size: enlarging small pictures only costs time
            sized["size"] = image_size = image_size or (64 if classify else 128)
        options = _model_options(option or [], backbone, image_size, pretrained)
        if model == "cascade":
            options.pop("image_size", None)
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
            precision=precision,
            device=_device(device),
            data=sized,
        )
        from detcore.data.transforms import Augment

        light = Augment(upside_down=0.5 if upside_down else 0.0) if augment else None
        _train(model, options, config, val_data, out, light)


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
        net, info = _load_model(checkpoint, device)
        if limit and (data or info.data.get("spec")) != "digits":
            raise _Wrong("--limit is for digits, which are made to any number")
        dataset = _open(data, split, info, length=limit)
        from detcore.engine.evaluate import evaluate
        from detcore.engine.report import headline, metrics_table

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
            _write_json(json_out, {"checkpoint": str(checkpoint), "split": split, **metrics})


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
    json_out: JsonOut = None,
    device: Device = "auto",
) -> None:
    """Find objects in photos: annotated pictures and JSON come out."""
    with _plain_errors():
        if bool(photos) == bool(data):
            raise _Wrong("give photos, or --data")
        net, info = _load_model(checkpoint, device)
        if data:
            dataset = _open(data, split, info, length=count)
            numbers = range(min(count, len(dataset)))
            pictures = [(_name_of(dataset, k, split), dataset[k][0]) for k in numbers]
        else:
            from detcore.data import read_image

            files = _picture_files(photos or [])
            pictures = [(str(f), read_image(f)) for f in files]
        _predict(net, info, pictures, out, score, json_out)


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
    quick: Annotated[bool, typer.Option("--quick", help="A few sizes only.")] = False,
    json_out: JsonOut = None,
) -> None:
    """Compare each op with torchvision on this machine."""
    with _plain_errors():
        from detcore.engine import bench as benchmark

        benchmark.main(quick=quick, json=json_out)


class _Wrong(ValueError):
    """Something the user can put right; shown as a sentence."""


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what a user can put right into one sentence and exit code 2; bugs keep their trace."""
    logger = logging.getLogger("detcore")
    if not any(isinstance(h, _Notes) for h in logger.handlers):
        logger.addHandler(_Notes())
    try:
        yield
    except (_Wrong, ImportError, OSError) as error:
        _fail(str(error))
    except (ValueError, RuntimeError) as error:
        from detcore.data import DataError
        from detcore.engine.checkpoint import CheckpointError
        from detcore.engine.train import TrainingDiverged

        if isinstance(error, TrainingDiverged):
            _fail(str(error), code=1)
        if not isinstance(error, DataError | CheckpointError):
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


def _train(
    model: str,
    options: dict[str, Any],
    config: TrainConfig,
    val_data: str | None,
    out: Path,
    augmentation: Augment | None,
) -> None:
    from detcore.engine.plots import loss_curve
    from detcore.engine.report import TrainProgress, headline, summary
    from detcore.engine.train import train

    chosen = config.data
    dataset = _load_data(chosen["spec"], "train", chosen)
    val = _validation(dataset, val_data, chosen)
    net = _create(model, dataset, options, config.seed)
    augment = _augment(net, dataset, augmentation)
    console.print(summary(net, dataset, val, config, out))
    with TrainProgress(console, config.batch_size) as watcher:
        result = train(net, dataset, config, out=out, val=val, augment=augment, watcher=watcher)
    loss_curve(out / "log.csv", out / "loss.png")
    if result.metrics:
        _write_json(out / "metrics.json", result.metrics)
    ended = "interrupted after" if result.interrupted else "done:"
    _say(
        f"{ended} {result.steps} steps in {result.seconds / 60:.1f} minutes  "
        f"{headline(result.metrics)}"
    )
    _say(f"checkpoints, log.csv and loss.png are in {out}")


def _augment(net: nn.Module, dataset: AnyDataset, wanted: Augment | None) -> Augment:
    """What is asked for, less what the data forbids, at the size that the model works at."""
    from detcore.data.transforms import Augment

    chosen = wanted or Augment(mirror=0.0, colour=0.0, scale=(1.0, 1.0))
    if not dataset.mirror:
        chosen = replace(chosen, mirror=0.0, upside_down=0.0)
    config: Any = getattr(net, "config", {})
    size = config.get("image_size")
    if size and dataset.task != "detection":
        size *= 2  # a classifier stretches to a square: its short side must not lose pixels
    return replace(chosen, longest=size)


def _create(model: str, dataset: AnyDataset, options: dict[str, Any], seed: int) -> nn.Module:
    import torch

    from detcore import models

    detector = dataset.task == "detection"
    if detector == (model == "classifier"):
        raise _Wrong(f"the data is for {dataset.task}, which --model {model} doesn't do")
    torch.manual_seed(seed)
    try:
        # detectors count the background as class 0
        return models.create(model, len(dataset.classes) + detector, **options)
    except (ValueError, TypeError) as error:
        raise _Wrong(str(error)) from error


def _model_options(
    given: list[str], backbone: str | None, image_size: int | None, pretrained: bool
) -> dict[str, Any]:
    options: dict[str, Any] = {"backbone": backbone, "image_size": image_size}
    options = {k: v for k, v in options.items() if v is not None}
    if pretrained:
        options["pretrained"] = True
    for entry in given:
        name, sign, text = entry.partition("=")
        if not sign:
            raise _Wrong(f"--option must be NAME=JSON, got {entry!r}")
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text  # a bare word is a string
    return options


def _load_data(spec: str, split: str, chosen: dict[str, Any]) -> AnyDataset:
    """Open data; `chosen` says of which size and seed the digits are to be."""
    from detcore.data import load

    known = ("task", "size", "seed", "length") if spec == "digits" else ()
    return load(spec, split, **{k: chosen[k] for k in known if chosen.get(k) is not None})


def _validation(
    dataset: AnyDataset, val_data: str | None, chosen: dict[str, Any]
) -> AnyDataset | None:
    from detcore.data import DataError

    spec = val_data or chosen["spec"]
    if val_data is None and spec.endswith(".json"):
        _say("no evaluation: a .json is one split; name another with --val-data")
        return None
    try:
        val = _load_data(spec, "val", chosen)
    except DataError as error:
        if val_data:
            raise
        _say(f"no evaluation: {error}")
        return None
    _same_classes(val.classes, dataset.classes, spec)
    return val


def _same_classes(there: list[str], wanted: list[str], spec: str) -> None:
    if there != wanted:
        raise _Wrong(f"{spec} has the classes {', '.join(there)}, the model {', '.join(wanted)}")


def _load_model(path: Path, device: str) -> tuple[nn.Module, CheckpointInfo]:
    from detcore.engine.checkpoint import load

    net, info = load(path)
    import torch

    chosen = _device(device)
    if chosen == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    return net.to(chosen), info


def _open(data: str | None, split: str, info: CheckpointInfo, length: int | None) -> AnyDataset:
    spec = data or info.data.get("spec")
    if not spec:
        raise _Wrong("the checkpoint doesn't say what it was trained on; give --data")
    task = {"task": info.task, "length": length}
    dataset = _load_data(spec, split, {**info.data, **task})
    if dataset.task != info.task:
        raise _Wrong(f"{spec} is for {dataset.task}, the checkpoint for {info.task}")
    _same_classes(dataset.classes, info.classes, spec)
    return dataset


def _device(name: str) -> str:
    _one_of("--device", name.split(":")[0], ("auto", "cpu", "cuda"))
    if name.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise _Wrong("--device cuda: torch finds no CUDA device here")
    return name


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _Wrong(f"{option} must be one of {', '.join(allowed)}, got {value!r}")


def _name_of(dataset: AnyDataset, index: int, split: str) -> str:
    from detcore.data import DetectionDataset

    if isinstance(dataset, DetectionDataset):
        return dataset.record(index).file_name
    return f"{split}-{index:03d}"


def _picture_files(given: list[Path]) -> list[Path]:
    from detcore.data.base import IMAGE_SUFFIXES

    files: list[Path] = []
    for path in given:
        if path.is_dir():
            files += sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        else:
            files.append(path)
    if not files:
        raise _Wrong(f"no pictures in {', '.join(map(str, given))}")
    return files


def _predict(
    net: nn.Module,
    info: CheckpointInfo,
    pictures: list[tuple[str, Tensor]],
    out: Path | None,
    score: float,
    json_out: Path | None,
) -> None:
    from detcore.engine.plots import draw, overview, save_picture
    from detcore.engine.predict import predict, to_json

    one_file = out is not None and out.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")
    if one_file and len(pictures) > 1:
        raise _Wrong(f"--out must be a folder for {len(pictures)} pictures, got {out}")
    device = next(net.parameters()).device
    answers, drawn = [], []
    for name, image in pictures:
        found = predict(net, [image], device=device, score=score)[0]
        answer = to_json(found, info.classes, image)
        answers.append({"file": name, **answer})
        _say(f"{name}: {_sentence(answer)}")
        if out:
            drawn.append(draw(image, answer, classes=info.classes))
    if out and one_file:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_picture(drawn[0], out)
    elif out:
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in zip(_file_names([n for n, _ in pictures]), drawn, strict=True):
            save_picture(picture, out / name)
        if len(drawn) > 1:
            save_picture(overview(drawn[:16]), out / "overview.png")
    if out:
        _say(f"pictures are in {out}")
    if json_out:
        _write_json(json_out, answers)


def _file_names(names: list[str]) -> list[str]:
    """A .png name each; photos of the same name in two folders must not overwrite each other."""
    taken: dict[str, int] = {}
    out = []
    for name in names:
        stem = Path(name).stem
        taken[stem] = taken.get(stem, 0) + 1
        out.append(f"{stem}.png" if taken[stem] == 1 else f"{stem}-{taken[stem]}.png")
    return out


def _sentence(answer: dict[str, Any]) -> str:
    if "detections" not in answer:
        return f"{answer['class']} ({answer['scores'][answer['class']]:.2f})"
    counts: dict[str, int] = {}
    for found in answer["detections"]:
        counts[found["class"]] = counts.get(found["class"], 0) + 1
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "nothing found"


def _write_json(path: Path, value: Any) -> None:
    from detcore.engine.checkpoint import atomic

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
