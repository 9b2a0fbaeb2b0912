"""The flags of `detcore train` that say how a model is made, learns, is saved and logged.

Those of learning, saving and logging are `detcore.training.config.TrainConfig`'s, under its names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

# these say nothing of the run itself
_NO_SETTINGS = ("config_file", "resume", "overwrite", "threads")

ImageSize = Annotated[
    int | None, typer.Option(help="Longer side inside the model, pixels.", min=32, max=16384)
]
Backbone = Annotated[
    str | None, typer.Option(help="Any timm model with features, or torchvision:NAME.")
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Fetch timm's weights for the backbone.")
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Begin with these: an earlier run's folder or file, or of torchvision's --model a "
        "file, or torchvision: fetch."
    ),
]
Trunk = Annotated[
    Path | None,
    typer.Option(
        help="Weights of a torchvision classification network for --backbone torchvision:NAME."
    ),
]
ModelOption = Annotated[
    list[str] | None, typer.Option("--option", help="Further model option, NAME=JSON; repeatable.")
]
Detector = Annotated[
    str | None,
    typer.Option(help="Of a cascade: a run to take its detector from, or a model's name."),
]
Classifier = Annotated[
    str | None,
    typer.Option(help="Of a cascade: a run to take its classifier from, or a model's name."),
]
Minutes = Annotated[
    float | None, typer.Option(help="Time limit; the schedule ends with it.", min=0.01)
]
Epochs = Annotated[float | None, typer.Option(help="Passes over the data.", min=0)]
Steps = Annotated[int | None, typer.Option(help="Steps of the optimizer.", min=1)]
BatchSize = Annotated[
    int, typer.Option(help="Pictures a forward pass, on each process.", min=1, max=65536)
]
Accumulate = Annotated[int, typer.Option(help="Forward passes a step.", min=1)]
Optimizer = Annotated[str, typer.Option(help="adamw or sgd.")]
LearningRate = Annotated[float, typer.Option(help="Highest learning rate.", min=0)]
WeightDecay = Annotated[float, typer.Option(min=0)]
Momentum = Annotated[float, typer.Option(help="Of sgd.", min=0, max=1)]
Nesterov = Annotated[bool, typer.Option(help="Of sgd.")]
Warmup = Annotated[float, typer.Option(help="Share of the run.", min=0, max=1)]
DropAt = Annotated[
    list[float] | None,
    typer.Option(
        help="Share of the run where the rate falls to a tenth; repeatable. None: a cosine.",
        min=0,
        max=1,
    ),
]
Clip = Annotated[float, typer.Option(help="Gradient norm limit; 0: none.", min=0)]
Ema = Annotated[
    float, typer.Option(help="Decay of averaged weights, such as 0.998; 0: none.", min=0, max=1)
]
FreezeNorms = Annotated[bool, typer.Option("--freeze-norms", help="Keep batch norms as they are.")]
FreezeBackbone = Annotated[
    bool, typer.Option("--freeze-backbone", help="Keep the backbone as it is, train the rest.")
]
Mosaic = Annotated[float, typer.Option(help="Share of pictures made of four.", min=0, max=1)]
Crops = Annotated[float, typer.Option(help="Share of pictures cropped as SSD does.", min=0, max=1)]
GroupAspect = Annotated[
    bool, typer.Option("--group-aspect", help="Batches of like aspect ratio: less padding.")
]
EvalEvery = Annotated[
    float, typer.Option(help="Epochs between evaluations; 0: at the end alone.", min=0)
]
Patience = Annotated[
    int, typer.Option(help="Evaluations without a better score that end it; 0: never.", min=0)
]
SaveMinutes = Annotated[
    float, typer.Option(help="Minutes between savings of last; 0: not by time.", min=0)
]
SaveSteps = Annotated[
    int, typer.Option(help="Steps between savings of last; 0: not by steps.", min=0)
]
LogEvery = Annotated[int, typer.Option(help="Steps a row of log.csv.", min=1)]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard too.")]
Workers = Annotated[int, typer.Option(help="Loader processes.", min=0, max=1024)]
Precision = Annotated[
    str, typer.Option(help="no, bf16, fp16, or auto: bf16 where the machine has it.")
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
