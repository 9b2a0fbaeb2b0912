"""The flags of `detcore train` that say how a model is made, learns, is saved and logged.

Those of learning, saving and logging are `detcore.training.config.TrainConfig`'s, under its names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from detcore.commands.options import DATA, MACHINE, MODEL

OPTIMIZATION = "Optimization"
AUGMENTATION = "Augmentation"
SAVING = "Saving"

# these say nothing of the run itself
_NO_SETTINGS = ("config_file", "resume", "overwrite", "threads")

# --- Data -----------------------------------------------------------------------------------------
ValData = Annotated[
    str | None,
    typer.Option(
        help="Evaluate on this data, whole. Default: the val split of --data.",
        rich_help_panel=DATA,
    ),
]
ValShare = Annotated[
    float,
    typer.Option(
        help="Share of the training pictures to hold out for evaluation, if --data has no val "
        "split and there is no --val-data; 0: none.",
        min=0,
        max=0.9,
        rich_help_panel=DATA,
    ),
]
Split = Annotated[
    str,
    typer.Option(help="Split of --data to train on, if it has several.", rich_help_panel=DATA),
]

Oriented = Annotated[
    bool,
    typer.Option(
        "--oriented",
        help="Boxes with an angle: of digits, DOTA, YOLO's corners, or COCO's polygons and boxes "
        "of five numbers. For --model yolo and faster_rcnn.",
        rich_help_panel=DATA,
    ),
]

# --- Model ----------------------------------------------------------------------------------------
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="What to train: faster_rcnn, ssd, yolo, classifier, cascade; or, with --weights, the "
        "name of a torchvision model.",
        metavar="NAME",
        rich_help_panel=MODEL,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Length of a picture's longer side inside the model, pixels. Default: the model's.",
        min=32,
        max=16384,
        rich_help_panel=MODEL,
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="A timm model that gives features, such as resnet18, or torchvision:NAME. "
        "Default: cs3darknet_focus_s.",
        rich_help_panel=MODEL,
    ),
]
Pretrained = Annotated[
    bool,
    typer.Option(
        "--pretrained", help="Download timm's weights for the backbone.", rich_help_panel=MODEL
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Initial weights: a run folder or checkpoint; or, if --model names a torchvision "
        "model, a .pth file, or 'torchvision' to download them.",
        rich_help_panel=MODEL,
    ),
]
Trunk = Annotated[
    Path | None,
    typer.Option(
        help="Weights file of a torchvision classifier, for --backbone torchvision:NAME.",
        rich_help_panel=MODEL,
    ),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Any other argument of the model's class, NAME=JSON, such as min_size=256; may be "
        "repeated. The documentation of detcore.models lists them.",
        rich_help_panel=MODEL,
    ),
]
Detector = Annotated[
    str | None,
    typer.Option(
        help="Detector of a cascade: a run folder to take it from, or a model's name.",
        rich_help_panel=MODEL,
    ),
]
Classifier = Annotated[
    str | None,
    typer.Option(
        help="Classifier of a cascade: a run folder to take it from, or a model's name.",
        rich_help_panel=MODEL,
    ),
]

# --- Optimization ---------------------------------------------------------------------------------
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Train for this long; the learning-rate schedule ends when the time does.",
        min=0.01,
        rich_help_panel=OPTIMIZATION,
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(
        help="Passes over the data. Default, if neither minutes nor steps are given: 10.",
        min=0,
        rich_help_panel=OPTIMIZATION,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(help="Optimizer steps.", min=1, rich_help_panel=OPTIMIZATION),
]
BatchSize = Annotated[
    int,
    typer.Option(
        help="Pictures per forward pass and process.",
        min=1,
        max=65536,
        rich_help_panel=OPTIMIZATION,
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        help="Forward passes whose gradients are averaged into one step.",
        min=1,
        rich_help_panel=OPTIMIZATION,
    ),
]
Optimizer = Annotated[
    str,
    typer.Option(
        help="Rule of the weight updates.", metavar="[adamw|sgd]", rich_help_panel=OPTIMIZATION
    ),
]
LearningRate = Annotated[
    float,
    typer.Option(
        help="Learning rate after the warmup: the highest.", min=0, rich_help_panel=OPTIMIZATION
    ),
]
WeightDecay = Annotated[
    float,
    typer.Option(
        help="Weight decay of convolutions and linear layers.",
        min=0,
        rich_help_panel=OPTIMIZATION,
    ),
]
Momentum = Annotated[
    float, typer.Option(help="Momentum of sgd.", min=0, max=1, rich_help_panel=OPTIMIZATION)
]
Nesterov = Annotated[
    bool, typer.Option(help="Nesterov momentum, for sgd.", rich_help_panel=OPTIMIZATION)
]
Warmup = Annotated[
    float,
    typer.Option(
        help="Share of the run in which the learning rate rises from 0.",
        min=0,
        max=1,
        rich_help_panel=OPTIMIZATION,
    ),
]
DropAt = Annotated[
    list[float] | None,
    typer.Option(
        help="Share of the run at which the learning rate falls to a tenth; may be repeated. "
        "Default: none, it follows a cosine.",
        min=0,
        max=1,
        rich_help_panel=OPTIMIZATION,
    ),
]
Clip = Annotated[
    float,
    typer.Option(
        help="Largest norm of the gradient; 0: no limit.", min=0, rich_help_panel=OPTIMIZATION
    ),
]
Ema = Annotated[
    float,
    typer.Option(
        help="Decay of the moving average of the weights, such as 0.998, that is evaluated and "
        "saved; 0: no average.",
        min=0,
        max=1,
        rich_help_panel=OPTIMIZATION,
    ),
]
FreezeNorms = Annotated[
    bool,
    typer.Option("--freeze-norms", help="Do not train batch norms.", rich_help_panel=OPTIMIZATION),
]
FreezeBackbone = Annotated[
    bool,
    typer.Option(
        "--freeze-backbone",
        help="Do not train the backbone, only the rest.",
        rich_help_panel=OPTIMIZATION,
    ),
]

# --- Augmentation ---------------------------------------------------------------------------------
WithAugment = Annotated[
    bool,
    typer.Option(
        "--augment/--no-augment",
        help="Random flips, scales and colours.",
        rich_help_panel=AUGMENTATION,
    ),
]
UpsideDown = Annotated[
    bool,
    typer.Option(
        "--upside-down",
        help="Flip top to bottom too (microscopy, aerial photos).",
        rich_help_panel=AUGMENTATION,
    ),
]
Mosaic = Annotated[
    float,
    typer.Option(
        help="Share of pictures that are put together from four.",
        min=0,
        max=1,
        rich_help_panel=AUGMENTATION,
    ),
]
Crops = Annotated[
    float,
    typer.Option(
        help="Share of pictures with random crops around objects.",
        min=0,
        max=1,
        rich_help_panel=AUGMENTATION,
    ),
]
Rotate = Annotated[
    float,
    typer.Option(
        help="Turn pictures by up to this angle either way, degrees; with --oriented.",
        min=0,
        max=180,
        rich_help_panel=AUGMENTATION,
    ),
]
GroupAspect = Annotated[
    bool,
    typer.Option(
        "--group-aspect",
        help="Batches of pictures with similar aspect ratios: less padding.",
        rich_help_panel=AUGMENTATION,
    ),
]

# --- Saving ---------------------------------------------------------------------------------------
Out = Annotated[
    Path,
    typer.Option(help="Folder for checkpoints, log and curves.", rich_help_panel=SAVING),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the run in --out.", rich_help_panel=SAVING),
]
EvalEvery = Annotated[
    float,
    typer.Option(
        help="Epochs between evaluations; 0: only at the end.", min=0, rich_help_panel=SAVING
    ),
]
Patience = Annotated[
    int,
    typer.Option(
        help="Stop after this many evaluations without a better score; 0: never.",
        min=0,
        rich_help_panel=SAVING,
    ),
]
SaveMinutes = Annotated[
    float,
    typer.Option(
        help="Minutes between saves of the last checkpoint; 0: not by time.",
        min=0,
        rich_help_panel=SAVING,
    ),
]
SaveSteps = Annotated[
    int,
    typer.Option(
        help="Steps between saves of the last checkpoint; 0: not by steps.",
        min=0,
        rich_help_panel=SAVING,
    ),
]
LogEvery = Annotated[
    int, typer.Option(help="Steps per row of log.csv.", min=1, rich_help_panel=SAVING)
]
TensorBoard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Also log for TensorBoard.", rich_help_panel=SAVING),
]

# --- Machine --------------------------------------------------------------------------------------
Workers = Annotated[
    int,
    typer.Option(
        help="Processes that load data; 0: the training process loads it itself.",
        min=0,
        max=1024,
        rich_help_panel=MACHINE,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="Mixed precision; auto is bf16 if the machine has it.",
        metavar="[no|bf16|fp16|auto]",
        rich_help_panel=MACHINE,
    ),
]


def settings_of(ctx: typer.Context) -> dict[str, Any]:
    """The parameters of the command that are a run's settings, by name."""
    return {p.name: p for p in ctx.command.params if p.name and p.name not in _NO_SETTINGS}


def settings_in(file: Path, ctx: typer.Context, hints: Mapping[str, Any]) -> dict[str, Any]:
    """What a YAML file sets of the command's parameters; hints: the types of these.

    Raises:
        ConfigError: what `detcore.training.config_file.read` refuses, and a value out of bounds.
    """
    from detcore.training import config_file

    known = settings_of(ctx)

    def within_bounds(name: str, value: Any) -> None:
        try:
            known[name].process_value(ctx, value)
        except typer.BadParameter as error:
            raise ValueError(error.message) from error

    return config_file.read(file, {name: hints[name] for name in known}, within_bounds)


def given(ctx: typer.Context) -> list[str]:
    """The parameters that were named on the command line."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
