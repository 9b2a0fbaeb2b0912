"""detcore train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from detcore.commands import train_flags as flags
from detcore.commands.exit_codes import INTERRUPTED, plain_errors
from detcore.commands.options import Data, Device, MaxDamaged, Seed, Threads, examples
from detcore.utils.printing import console, say

EXAMPLES = examples(
    "detcore train --model yolo --data path/to/data --minutes 30 --out runs/mine",
    "detcore train --weights runs/mine --data path/to/other --freeze-backbone --out runs/tuned",
    "detcore train --model ssd --backbone resnet18 --option aspect_ratios='\\[2, 3]'",
    "detcore train --epochs 50 --optimizer sgd --lr 0.01 --drop-at 0.7 --drop-at 0.9",
    "detcore train --data path/to/data --mosaic 0.5 --crops 0.3 --upside-down",
    "detcore train --resume runs/mine",
)


def _from_file(ctx: typer.Context, file: Path | None) -> Path | None:
    """Let a file's settings stand in for the command's defaults; flags go over them."""
    if file is not None:
        with plain_errors():
            ctx.default_map = flags.settings_in(file, ctx, get_type_hints(train_command))
    return file


def _from_run(ctx: typer.Context, folder: Path | None) -> Path | None:
    """Let a run's own settings stand in for the command's defaults."""
    if folder is not None:
        _from_file(ctx, folder / "config.yaml")
        ctx.default_map = {**(ctx.default_map or {}), "out": str(folder)}
    return folder


def train_command(
    ctx: typer.Context,
    data: Data = "digits",
    split: flags.Split = "train",
    val_data: flags.ValData = None,
    val_share: flags.ValShare = 0.2,
    max_damaged: MaxDamaged = 0.05,
    oriented: flags.Oriented = False,
    model: flags.ModelName = "ssd",
    backbone: flags.Backbone = None,
    image_size: flags.ImageSize = None,
    weights: flags.Weights = None,
    pretrained: flags.Pretrained = False,
    trunk: flags.Trunk = None,
    option: flags.ModelOption = None,
    detector: flags.Detector = None,
    classifier: flags.Classifier = None,
    minutes: flags.Minutes = None,
    epochs: flags.Epochs = None,
    steps: flags.Steps = None,
    batch_size: flags.BatchSize = 16,
    accumulate: flags.Accumulate = 1,
    optimizer: flags.Optimizer = "adamw",
    lr: flags.LearningRate = 2e-3,
    warmup: flags.Warmup = 0.05,
    drop_at: flags.DropAt = None,
    weight_decay: flags.WeightDecay = 0.02,
    momentum: flags.Momentum = 0.9,
    nesterov: flags.Nesterov = True,
    clip: flags.Clip = 10.0,
    ema: flags.Ema = 0.0,
    freeze_norms: flags.FreezeNorms = False,
    freeze_backbone: flags.FreezeBackbone = False,
    augment: flags.WithAugment = True,
    upside_down: flags.UpsideDown = False,
    mosaic: flags.Mosaic = 0.0,
    crops: flags.Crops = 0.0,
    rotate: flags.Rotate = 0.0,
    group_aspect: flags.GroupAspect = False,
    out: flags.Out = Path("runs/train"),
    overwrite: flags.Overwrite = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            callback=_from_run,
            help="Continue the run in this folder, with its own settings.",
            rich_help_panel=flags.SAVING,
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            is_eager=True,
            callback=_from_file,
            help="Read options from this YAML file, such as a run's config.yaml; options on the "
            "command line override it.",
            rich_help_panel=flags.SAVING,
        ),
    ] = None,
    eval_every: flags.EvalEvery = 0,
    patience: flags.Patience = 0,
    save_minutes: flags.SaveMinutes = 1.0,
    save_steps: flags.SaveSteps = 0,
    log_every: flags.LogEvery = 10,
    tensorboard: flags.TensorBoard = False,
    device: Device = "auto",
    precision: flags.Precision = "no",
    threads: Threads = None,
    workers: flags.Workers = 0,
    seed: Seed = 0,
) -> None:
    """Train a detector or classifier, evaluate it, and save it as a run folder.

    To train one model on several processes, start this command with torchrun or accelerate launch.
    """
    with plain_errors():
        from detcore.commands.model_data import open_data
        from detcore.commands.run_folder import check_free, check_unchanged, conclude
        from detcore.commands.threads import set_threads
        from detcore.commands.train_progress import TrainProgress, summary
        from detcore.commands.train_setup import (
            augmentation,
            data_facts,
            model_to_train,
            validation_data,
        )
        from detcore.data.loading.transforms import Augment
        from detcore.training.config import TrainConfig
        from detcore.training.distributed import disband, is_main_process, process_count
        from detcore.training.run_log import summary_writer
        from detcore.training.trainer import train as run

        console.quiet = not is_main_process()
        set_threads(threads)
        _check_flags(precision, optimizer, device, config_file, resume)
        settings = _settings(ctx)
        if resume:
            named = {k: settings[k] for k in flags.given(ctx) if k in settings}
            check_unchanged(resume, ctx.default_map or {}, named)
        elif is_main_process():
            check_free(out, overwrite)
        _complete(settings, ctx, resume)
        facts = data_facts(settings)
        config = TrainConfig.of(settings, facts)
        config.check()
        if tensorboard:
            summary_writer()
        dataset = open_data(settings["data"], split, facts, facts.get("val_share"))
        val = validation_data(dataset, settings["val_data"], facts, say)
        net = model_to_train(settings, dataset, resume)
        if not resume and is_main_process():
            _begin(ctx, settings, out, overwrite)
        light = Augment(upside_down=0.5 if upside_down else 0.0) if augment else None
        changed = augmentation(net, dataset, light, mosaic=mosaic, crops=crops, rotate=rotate)
        console.print(summary(net, dataset, val, config, out))
        with TrainProgress(console, config.images_per_step(process_count())) as watcher:
            result = run(
                net,
                dataset,
                config,
                out=out,
                val=val,
                augment=changed,
                watcher=watcher,
                resume=resume is not None,
            )
        disband()
        if is_main_process():
            conclude(out, result, say)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)  # else `train && eval` would go on


def _check_flags(
    precision: str, optimizer: str, device: str, config_file: Path | None, resume: Path | None
) -> None:
    from detcore.utils.arguments import checked_device, one_of
    from detcore.utils.errors import UsageError

    one_of("--precision", precision, ("no", "bf16", "fp16", "auto"))
    one_of("--optimizer", optimizer, ("adamw", "sgd"))
    checked_device(device)
    if config_file and resume:
        raise UsageError("give --config or --resume, not both")


def _settings(ctx: typer.Context) -> dict[str, Any]:
    """The run's settings by name, of the command line, a file or a run; data by its full path."""
    from detcore.commands.model_data import located

    settings = {name: ctx.params[name] for name in flags.settings_of(ctx)}
    data, val_data = settings["data"], settings["val_data"]
    return settings | {"data": located(data), "val_data": located(val_data) if val_data else None}


def _complete(settings: dict[str, Any], ctx: typer.Context, resume: Path | None) -> None:
    """Fill in what follows from other settings: a run's model, a length, the digits' size."""
    from detcore.checkpoints.load_model import model_of_run
    from detcore.commands.train_setup import size_of_digits
    from detcore.training.precision import fast_precision

    weights, chosen = settings["weights"], {*flags.given(ctx), *(ctx.default_map or {})}
    if weights and not resume and "model" not in chosen:
        settings["model"] = model_of_run(weights) or settings["model"]
    if all(settings[length] is None for length in ("minutes", "epochs", "steps")):
        settings["epochs"] = 10.0
    if settings["data"] == "digits":
        settings["image_size"] = size_of_digits(settings["model"], settings["image_size"])
    if settings["precision"] == "auto":
        settings["precision"] = fast_precision(settings["device"])


def _begin(ctx: typer.Context, settings: dict[str, Any], out: Path, overwrite: bool) -> None:
    """Take the folder of a new run, and write its settings there."""
    from detcore.commands.run_folder import begin_run, check_free
    from detcore.training import run_lock

    run_lock.hold(out)
    ctx.call_on_close(lambda: run_lock.release(out))
    check_free(out, overwrite)  # again: another run may have come meanwhile
    begin_run(out, settings)
