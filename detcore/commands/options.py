"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATA_HELP = (
    "'digits' (built in), a COCO .json, a YOLO .yaml, a .csv of boxes, a .csv or .json of labels, "
    "a folder (COCO, VOC, YOLO, one folder a class, ...), or NAME:PATH, such as cifar10:PATH."
)
Data = Annotated[str, typer.Option("--data", help=DATA_HELP)]
Checkpoint = Annotated[
    Path | None, typer.Option(help="A run's folder (best, else last) or a .safetensors file.")
]
PublishedModel = Annotated[
    str | None,
    typer.Option(
        "--model", help="Instead of --checkpoint: torchvision's name of a model, or a Darknet .cfg."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="Of --model: a .pth, .safetensors or Darknet file, or torchvision: fetch."),
]
Names = Annotated[
    Path | None, typer.Option(help="Class names for --model, one a line; else its published ones.")
]
MaxDamaged = Annotated[
    float, typer.Option(help="Share of damaged pictures to skip, not end at.", min=0, max=1)
]
Optimize = Annotated[
    str, typer.Option(help="no, or fp32 or bf16: make the model ready for inference first.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[
    str | None,
    typer.Option(help="Of torch: a number, or auto: as many as processors are idle just now."),
]
Seed = Annotated[int, typer.Option(help="Seed of the data and of all randomness.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Write the result here as JSON.")]
