"""Training runs in their own processes, where tests can kill them."""

import itertools
import os
import signal
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import sklearn.datasets  # noqa: F401
import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import save_file

from detcore.checkpoints import checkpoint
from detcore.data import Digits, DigitScenes
from detcore.data.loading.transforms import Augment
from detcore.models import create
from detcore.training.config import TrainConfig
from detcore.training.run_lock import RunInUse
from detcore.training.trainer import train
from detcore.utils import atomic_write
from tests.helpers.tiny import Tiny

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
    """Train in `folder`. With `dies_at_sync`, die at that sync of a file, before it is renamed.

    Each save of a checkpoint syncs three files before it renames them: state, weights, JSON.
    """
    torch.set_num_threads(1)
    if dies_at_sync:
        count = itertools.count(1)

        def fsync(number):
            if next(count) == dies_at_sync:
                os.kill(os.getpid(), signal.SIGKILL)
            os.fsync(number)

        atomic_write.os = SimpleNamespace(fsync=fsync, getpid=os.getpid)
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
        augment=Augment(scale=(1.0, 1.0)),  # digits must stay in the picture
        resume=resume,
    )


def launched(rank: int, world: int, port: int) -> None:
    """Set the environment as a launcher does for each process."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {k: str(v) for k, v in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def stopped_and_resumed(folder: Path, rank: int, world: int, port: int) -> None:
    """An uninterrupted run, and one that a signal to its last process stops, and its resumption."""
    launched(rank, world, port)
    config = TrainConfig(
        steps=8,
        batch_size=2,
        accumulate=2,
        ema=0.9,
        eval_every=1.0,
        patience=100,
        log_every=1,
        device="cpu",
    )

    def signalled(image, target):
        if rank == world - 1 and next(seen) == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        return image, target

    seen = itertools.count(1)
    for name, augment, resume, steps in (
        ("whole", None, False, 8),
        ("parts", signalled, False, 3),
        ("parts", None, True, 8),
    ):
        result = train(
            noisy(),
            data(),
            config,
            out=folder / name,
            val=data("val", 4),
            augment=augment,
            resume=resume,
        )
        assert result.steps == steps
        assert result.interrupted == (steps == 3)


def resumed_apart(folder: Path, rank: int, world: int, port: int) -> None:
    """Processes with separate folders, of which only the first contains a run."""
    launched(rank, world, port)
    config = TrainConfig(steps=2, batch_size=2, device="cpu")
    train(noisy(), data(), config, out=folder / "0")
    try:
        train(noisy(), data(), config, out=folder / str(rank), resume=True)
    except checkpoint.CheckpointError as error:
        (folder / f"refused.{rank}").write_text(str(error))


def locked_out(folder: Path, rank: int, world: int, port: int) -> None:
    """Processes whose folder is locked by another training."""
    launched(rank, world, port)
    try:
        train(noisy(), data(), TrainConfig(steps=2, batch_size=2, device="cpu"), out=folder)
    except RunInUse as error:
        (folder / f"refused.{rank}").write_text(str(error))


def gradients(folder: Path, rank: int, world: int, port: int, batch_size: int, names) -> None:
    """One step of plain gradient descent per model, in one of `world` launched processes.

    Saves the weights before and after in `folder`; their difference is the gradient.
    """
    launched(rank, world, port)
    for name in names:
        torch.manual_seed(0)
        model = create(name, 11, backbone="test_resnet", image_size=64)
        save_file(
            checkpoint.unshared(model.state_dict()), folder / f"{name}.{rank}.before.safetensors"
        )
        scenes = Digits("train", length=16, scenes=DigitScenes(size=64, digits=(1, 4)))
        config = TrainConfig(
            steps=1,
            batch_size=batch_size,
            optimizer="sgd",
            momentum=0.0,
            lr=1.0,
            warmup=0.0,
            weight_decay=0.0,
            clip=0.0,
            freeze_norms=True,
            device="cpu",
        )
        train(model, scenes, config, out=folder / name)
        save_file(
            checkpoint.unshared(model.state_dict()), folder / f"{name}.{rank}.after.safetensors"
        )


def command(folder: Path, rank: int, world: int, port: int) -> None:
    """Run detcore train twice, as torchrun does; the second call has nothing left to do."""
    from detcore.cli import app

    for number, arguments in enumerate(
        (
            ["--model", "classifier", "--backbone", "test_resnet", "--image-size", "64"]
            + ["--batch-size", "2", "--steps", "3", "--log-every", "1"]
            + ["--out", str(folder / "run")],
            ["--resume", str(folder / "run")],
        )
    ):
        launched(rank, world, port + number)
        with (folder / f"said.{number}.{rank}").open("w") as stream, redirect_stdout(stream):
            app(["train", *arguments], standalone_mode=False)
        PartialState._reset_state()
        AcceleratorState._reset_state(True)
