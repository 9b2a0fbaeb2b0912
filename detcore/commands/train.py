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
        from detcore.checkpoints.load_model import create_model, is_classifier, model_of_run
        from detcore.commands.model_data import located, open_data
        from detcore.commands.run_folder import (
            begin_run,
            check_free,
            check_unchanged,
            conclude,
            is_saved,
            saved_model,
        )
        from detcore.commands.threads import set_threads
        from detcore.commands.train_progress import TrainProgress, summary
        from detcore.commands.train_setup import (
            augmentation,
            cascade_parts,
            digits_as,
            model_options,
            validation_data,
        )
        from detcore.data.loading.transforms import Augment
        from detcore.data.splits import VAL_SHARE
        from detcore.training import run_lock
        from detcore.training.config import TrainConfig
        from detcore.training.distributed import disband, is_main_process, process_count
        from detcore.training.precision import fast_precision
        from detcore.training.run_log import summary_writer
        from detcore.training.trainer import train as run
        from detcore.utils.arguments import checked_device, one_of
        from detcore.utils.errors import UsageError

        console.quiet = not is_main_process()
        set_threads(threads)
        one_of("--precision", precision, ("no", "bf16", "fp16", "auto"))
        one_of("--optimizer", optimizer, ("adamw", "sgd"))
        checked_device(device)
        if config_file and resume:
            raise UsageError("give --config or --resume, not both")
        data, val_data = located(data), located(val_data) if val_data else None
        settings = {name: ctx.params[name] for name in flags.settings_of(ctx)}
        settings |= {"data": data, "val_data": val_data}
        if resume:
            given = {k: settings[k] for k in flags.given(ctx) if k in settings}
            check_unchanged(resume, ctx.default_map or {}, given)
        elif is_main_process():
            check_free(out, overwrite)
        if weights and not resume and "model" not in {*flags.given(ctx), *(ctx.default_map or {})}:
            model = settings["model"] = model_of_run(weights) or model
        if minutes is None and epochs is None and steps is None:
            settings["epochs"] = 10.0
        chosen: dict[str, Any] = {"spec": data, "seed": seed}
        if val_data:
            chosen |= {"val_spec": val_data, "val_share": 0.0}  # all of --data is to learn from
        elif val_share != VAL_SHARE:
            chosen["val_share"] = val_share
        if data == "digits":
            task = "classification" if is_classifier(model) else "detection"
            chosen |= digits_as(task, image_size)
            image_size = chosen["size"]
        settings |= {
            "image_size": image_size,
            "precision": fast_precision(device) if precision == "auto" else precision,
        }
        config = TrainConfig.of(settings, chosen)
        config.check()
        if tensorboard:
            summary_writer()
        dataset = open_data(data, split, chosen, chosen.get("val_share"))
        val = validation_data(dataset, val_data, chosen, say)
        if resume and is_saved(resume):
            net = saved_model(resume, model, dataset, data)
        else:
            if model == "cascade" and image_size and data != "digits":
                raise UsageError(
                    "--image-size: a cascade works at each picture's own size; give its parts' as "
                    """in --option 'classifier={"image_size": 96}'"""
                )
            size = None if model == "cascade" else image_size
            options = model_options(option or [], backbone, size, pretrained)
            options |= cascade_parts(model, detector, classifier)
            net = create_model(model, dataset, options, seed, weights=weights, trunk=trunk)
        if not resume and is_main_process():
            run_lock.hold(out)
            ctx.call_on_close(lambda: run_lock.release(out))
            check_free(out, overwrite)  # again: another run may have come meanwhile
            begin_run(out, settings)
        light = Augment(upside_down=0.5 if upside_down else 0.0) if augment else None
        console.print(summary(net, dataset, val, config, out))
        with TrainProgress(console, config.images_a_step(process_count())) as watcher:
            result = run(
                net,
                dataset,
                config,
                out=out,
                val=val,
                augment=augmentation(net, dataset, light, mosaic=mosaic, crops=crops),
                watcher=watcher,
                resume=resume is not None,
            )
        disband()
        if is_main_process():
            conclude(out, result, say)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)  # else `train && eval` would go on
