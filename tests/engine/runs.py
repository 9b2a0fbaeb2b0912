"""A run in a process of its own, to be killed there."""

import itertools
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import sklearn.datasets  # noqa: F401
import torch

from detcore.data import Digits, DigitScenes
from detcore.data.transforms import Augment
from detcore.engine import checkpoint
from detcore.engine.config import TrainConfig
from detcore.engine.train import train
from tests.engine.conftest import Tiny

STEPS = 30


class Noisy(Tiny):
    """Draws from torch's global generator, as dropout does."""

    def forward(self, images, targets=None):
        losses = super().forward(images, targets)
        return (
            {k: v * (0.5 + torch.rand(())) for k, v in losses.items()} if self.training else losses
        )


def data(split="train", length=20):
    return Digits(split, length=length, scenes=DigitScenes(size=32, digits=(1, 1)))


def noisy():
    torch.manual_seed(0)
    return Noisy()


def run(folder: Path, *, resume: bool = False, dies_at_sync: int = 0, **options) -> None:
    """Train in `folder`; with `dies_at_sync` killed when so many files are written but not named.

    Each save of a checkpoint syncs three files before their renaming: state, weights, JSON.
    """
    torch.set_num_threads(1)
    if dies_at_sync:
        count = itertools.count(1)

        def fsync(number):
            if next(count) == dies_at_sync:
                os.kill(os.getpid(), signal.SIGKILL)
            os.fsync(number)

        checkpoint.os = SimpleNamespace(fsync=fsync, getpid=os.getpid)
    config = TrainConfig(
        **{
            "steps": STEPS,
            "batch_size": 3,
            "accumulate": 2,
            "ema": 0.9,
            "eval_every": 2.0,
            "save_steps": 1,
            "log_every": 4,
            "device": "cpu",
            **options,
        }
    )
    train(
        noisy(),
        data(),
        config,
        out=folder,
        val=data("val", 4),
        augment=Augment(scale=(1.0, 1.0)),  # no digit may leave the picture
        resume=resume,
    )
