"""Mutations of checkpoints and Darknet files: they give a model or one clear message."""

import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from detcore import models
from detcore.checkpoints.checkpoint import load
from detcore.utils.errors import UserError
from detcore.weights import load_darknet
from tests.fuzz.mutate import TOKENS, mutated

VALUES = (None, True, 0, -1, 3, 5, 10**9, 10**12, 1e300, "x", "", [], [1], {}, {"name": "x"}, [[]])
CFG = """[net]
width=32
height=32
channels=3

[convolutional]
filters=4
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=21
size=1
stride=1
activation=linear

[yolo]
mask=0,1,2
anchors=3,4, 5,6, 7,8
classes=2
num=3
"""


class CheckpointFuzz:
    """A classifier's checkpoint: mutates values of its header, and its bytes."""

    def __init__(self, root: Path) -> None:
        torch.manual_seed(0)
        model = models.create("classifier", 3, backbone="test_resnet", image_size=32)
        self.file = root / "last.safetensors"
        self.said = {
            "format": 1,
            "model": model.config,
            "classes": ["a", "b", "c"],
            "task": "classification",
            "data": {"spec": "digits"},
            "training": {"lr": 0.1},
            "step": 3,
            "metrics": {},
        }
        save_file(model.state_dict(), str(self.file), metadata={"detcore": json.dumps(self.said)})
        # copies, because loaded tensors are memory-mapped and the file is overwritten
        self.tensors = {k: v.clone() for k, v in load_file(str(self.file)).items()}
        self.content = self.file.read_bytes()
        load(self.file)

    def case(self, rng: random.Random) -> None:
        if rng.random() < 0.4:
            self.file.write_bytes(mutated(self.content, rng))
        else:
            said = json.loads(json.dumps(self.said))
            place = rng.choice([said, said["model"], said["model"]])
            place[rng.choice([*place, "pretrained", "more"])] = rng.choice(VALUES)
            text = json.dumps(said)
            if rng.random() < 0.2:
                text = mutated(text.encode(), rng).decode("latin-1")
            save_file(self.tensors, str(self.file), metadata={"detcore": text})
        try:
            load(self.file)
        except UserError as error:
            if str(self.file) not in str(error):
                raise


class DarknetFuzz:
    """A small network with a mutated .cfg and a truncated .weights file."""

    def __init__(self, root: Path) -> None:
        self.cfg, self.weights = root / "a.cfg", root / "a.weights"
        self.cfg.write_text(CFG)
        floats = 4 * 3 * 9 + 4 * 4 + 21 * 4 + 21
        header = b"\0\0\0\0\2\0\0\0\5\0\0\0" + b"\0" * 8
        self.content = header + torch.rand(floats).numpy().tobytes()
        self.weights.write_bytes(self.content)
        load_darknet(self.cfg, self.weights)

    def case(self, rng: random.Random) -> None:
        cfg, content = CFG.encode(), self.content
        if rng.random() < 0.8:
            cfg = mutated(cfg, rng)
        else:
            content = content[: rng.randint(0, len(content))] + rng.choice(TOKENS)
        self.cfg.write_bytes(cfg)
        self.weights.write_bytes(content)
        try:
            load_darknet(self.cfg, self.weights)
        except ValueError as error:
            if str(self.cfg.parent) not in str(error):
                raise
