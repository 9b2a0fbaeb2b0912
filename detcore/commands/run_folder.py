"""The folder of a training run: what it holds already, and what it is left with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from detcore.checkpoints import checkpoint
from detcore.commands.console_tables import headline
from detcore.commands.model_data import check_classes
from detcore.data import AnyDataset
from detcore.training import config_file, resume_state
from detcore.training.config import RESUMABLE
from detcore.training.loss_curve import loss_curve
from detcore.training.run_files import RUN_FILES, SETTINGS
from detcore.training.trainer import TrainResult
from detcore.utils.atomic_write import write_json
from detcore.utils.errors import UsageError
from detcore.utils.text import Say
from detcore.weights import PUBLISHED


def check_free(out: Path, overwrite: bool) -> None:
    """Raise UsageError if a folder holds a run that is not to be replaced."""
    # settings alone are of a run that ended before its first step
    held = [name for name in RUN_FILES if name != SETTINGS and (out / name).exists()]
    if held and not overwrite:
        raise UsageError(
            f"{out} holds a run already ({held[0]}); give another --out, or --overwrite, or "
            f"continue it with --resume"
        )


def check_unchanged(folder: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise UsageError if a flag given on resuming a run would make another run of it.

    saved: the run's settings. given: the flags that were named, by their settings' names.
    """
    for name, value in given.items():
        value = config_file.as_plain(value)
        if name not in RESUMABLE and value != saved.get(name):
            was = "not given" if saved.get(name) is None else saved[name]
            raise UsageError(
                f"--{name.replace('_', '-')} {value} would change the run in {folder}, where it is "
                f"{was}; leave it out, or begin a new run with --config {folder / config_file.NAME}"
            )


def is_saved(folder: Path) -> bool:
    """Whether a run was saved, and so goes on with a model of its own."""
    return (folder / resume_state.NAME).is_file() and (folder / "last.safetensors").is_file()


def saved_model(folder: Path, model: str, dataset: AnyDataset, spec: str) -> nn.Module:
    """The model of a run that goes on; UsageError where it or its data's classes are others now."""
    net, info = checkpoint.load(folder / "last.safetensors")
    check_classes(dataset.classes, info.classes, spec)
    if model not in PUBLISHED and model != info.model["model"]:
        raise UsageError(f"{folder} trains a model {info.model['model']}, its settings say {model}")
    return net


def begin_run(out: Path, settings: dict[str, Any]) -> None:
    """Write a new run's settings into its folder."""
    # or a run killed before its first save would be resumed from what an earlier one left here
    (out / resume_state.NAME).unlink(missing_ok=True)
    config_file.write(out / config_file.NAME, {k: v for k, v in settings.items() if k != "out"})


def conclude(out: Path, result: TrainResult, say: Say) -> None:
    """Draw an ended run's curves, write its last figures, and say what came of it."""
    if (out / "log.csv").exists():  # not if it was ended before the first step
        loss_curve(out / "log.csv", out / "loss.png", out / "val.csv")
    if result.metrics:
        write_json(out / "metrics.json", result.metrics)
    ended = "done:"
    if result.stopped_early or result.interrupted:
        ended = "interrupted after" if result.interrupted else "stopped without improvement after"
    long = result.seconds >= 90
    took = f"{result.seconds / 60:.1f} minutes" if long else f"{result.seconds:.1f} seconds"
    say(f"{ended} {result.steps} steps in {took}  {headline(result.metrics)}".rstrip())
    say(f"checkpoints, log.csv and loss.png are in {out}")
    if result.interrupted:
        say(f"continue with: detcore train --resume {out}")
