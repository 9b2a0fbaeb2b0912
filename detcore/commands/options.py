"""Options that several commands share, and the panels in which `--help` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# The headings of `--help`.
DATA = "Data"
MODEL = "Model"
OUTPUT = "Output"
MACHINE = "Machine"

DATA_HELP = (
    "'digits' (built in), a COCO .json, a YOLO .yaml, a .csv of boxes, a .csv or .json of image "
    "labels, a folder (COCO, VOC, YOLO, one folder per class, ...), or NAME:PATH, such as "
    "cifar10:PATH."
)
Data = Annotated[str, typer.Option("--data", help=DATA_HELP, rich_help_panel=DATA)]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="A run folder (its best checkpoint, else its last) or a .safetensors file.",
        rich_help_panel=MODEL,
    ),
]
PublishedModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Instead of --checkpoint: the name of a torchvision model, or a Darknet .cfg file.",
        rich_help_panel=MODEL,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Weights for --model: a .pth, .safetensors or Darknet .weights file, or 'torchvision' "
        "to download them.",
        rich_help_panel=MODEL,
    ),
]
Names = Annotated[
    Path | None,
    typer.Option(
        help="Class names for --model, one per line. Default: the published names.",
        rich_help_panel=MODEL,
    ),
]
MaxDamaged = Annotated[
    float,
    typer.Option(
        help="Skip damaged pictures up to this share of the data; with more, stop.",
        min=0,
        max=1,
        rich_help_panel=DATA,
    ),
]
Optimize = Annotated[
    str,
    typer.Option(
        help="Prepare the model for fast inference first, in float32 or bfloat16.",
        metavar="[no|fp32|bf16]",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where to compute; auto takes the GPU if there is one.",
        metavar="[auto|cpu|cuda]",
        rich_help_panel=MACHINE,
    ),
]
Threads = Annotated[
    str | None,
    typer.Option(
        help="Number of CPU threads, or auto: as many as there are idle processors right now. "
        "Default: torch's own choice.",
        metavar="[auto|N]",
        rich_help_panel=MACHINE,
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="Seed of the data and of everything random.", rich_help_panel=MACHINE),
]
JsonOut = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result to this file as JSON.", rich_help_panel=OUTPUT),
]


def examples(*lines: str) -> str:
    """The text under a command's help: one example per line.

    Typer joins lines and keeps empty ones, so each example is a paragraph.
    """
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines)])
