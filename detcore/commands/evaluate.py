"""detcore eval."""

from __future__ import annotations

from typing import Annotated

import typer

from detcore.commands.options import (
    DATA_HELP,
    Checkpoint,
    Device,
    JsonOut,
    Names,
    Optimize,
    PublishedModel,
    Weights,
)
from detcore.terminal import console, plain_errors, say


def evaluate_command(
    checkpoint: Checkpoint = None,
    model: PublishedModel = None,
    weights: Weights = None,
    names: Names = None,
    data: Annotated[
        str | None, typer.Option(help=DATA_HELP + " Default: what it was trained on.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    score: Annotated[
        float, typer.Option(help="Confidence for precision and recall.", min=0, max=1)
    ] = 0.5,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate on N pictures; digits only.", min=1)
    ] = None,
    json_out: JsonOut = None,
    optimize: Optimize = "no",
    device: Device = "auto",
) -> None:
    """Measure a model on a data set and print a table."""
    with plain_errors():
        from detcore.engine import jobs
        from detcore.engine.evaluate import evaluate
        from detcore.engine.opening import named_as, open_model
        from detcore.engine.report import headline, metrics_table

        net, info = open_model(checkpoint, model, weights, names, device=device, speed=optimize)
        if limit and (data or info.data.get("spec")) != "digits":
            raise jobs.UsageError("--limit is for digits, which are made to any number")
        dataset = jobs.data_for(info, data, split, limit)
        net = named_as(net, info, dataset)
        with console.status("evaluating") as status:
            metrics = evaluate(
                net,
                dataset,
                device=next(net.parameters()).device,
                batch_size=batch_size,
                score=score,
                progress=lambda done, of: status.update(f"evaluating {done}/{of}"),
            )
        console.print(metrics_table(metrics, f"{data or info.data.get('spec')} ({split})"))
        say(
            f"{headline(metrics)}  ({metrics['images']} images, "
            f"{metrics['images_per_second']} images/s)"
        )
        if json_out:
            source = str(checkpoint or model)
            jobs.write_json(json_out, {"checkpoint": source, "split": split, **metrics})
