"""detcore eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detcore.commands.exit_codes import plain_errors
from detcore.commands.options import (
    DATA,
    DATA_HELP,
    MACHINE,
    MODEL,
    OUTPUT,
    Checkpoint,
    Device,
    JsonOut,
    MaxDamaged,
    Names,
    Optimize,
    PublishedModel,
    Threads,
    Weights,
    examples,
)
from detcore.utils.printing import console, say

if TYPE_CHECKING:
    from detcore.data import AnyDataset

EXAMPLES = examples(
    "detcore eval --checkpoint runs/mine --split val --report report.html",
    "detcore eval --model ssd300_vgg16 --weights torchvision --data path/to/coco",
    "detcore eval --results dets.json --data coco.json",
)


def evaluate_command(
    checkpoint: Checkpoint = None,
    model: PublishedModel = None,
    weights: Weights = None,
    names: Names = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=DATA_HELP + " Default: the run's own validation data.", rich_help_panel=DATA
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the data. Default: val, or everything if the data has no splits.",
            metavar="[train|val|test|all]",
            rich_help_panel=DATA,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a model: detections of any tool, in COCO's results form. Matches by "
            "file_name and category_name if present, else by ids.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    max_damaged: MaxDamaged = 0.05,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Number of pictures to evaluate on; digits only.", min=1, rich_help_panel=DATA
        ),
    ] = None,
    score: Annotated[
        float,
        typer.Option(
            help="Confidence at which precision, recall and errors are counted.",
            min=0,
            max=1,
            rich_help_panel=MODEL,
        ),
    ] = 0.5,
    json_out: JsonOut = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write one .html file: figures, curves, confusion matrix, the worst pictures.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Write curves, confusion matrix and errors to this folder, as PNG.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    save_results: Annotated[
        Path | None,
        typer.Option(
            help="Write the detections to this file, in COCO's results form.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Pictures per forward pass.", min=1, rich_help_panel=MACHINE)
    ] = 8,
    optimize: Optimize = "no",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Measure a model, or the detections of any tool, and print a table of metrics."""
    with plain_errors():
        from detcore.checkpoints.load_model import named_as, open_model
        from detcore.commands.console_tables import detail_table, headline, metrics_table, volume
        from detcore.commands.model_data import data_for, located, own_data
        from detcore.commands.output_paths import check_outputs, inputs_of
        from detcore.commands.threads import set_threads
        from detcore.evaluation.coco_results import data_to_score, read_results
        from detcore.evaluation.eval_plots import save_figures
        from detcore.evaluation.evaluator import evaluate, evaluate_results
        from detcore.evaluation.html_report import write_report
        from detcore.inference.export_formats import write_results
        from detcore.utils.atomic_write import write_json
        from detcore.utils.errors import UsageError

        set_threads(threads)
        files_out = {"--json": json_out, "--report": report, "--save-results": save_results}
        read = inputs_of(results, checkpoint, weights, names, data=data)
        check_outputs(files=files_out, folders={"--plots": plots}, inputs=read)
        source = str(results or checkpoint or model)
        dataset: AnyDataset
        if results:
            if checkpoint or model or weights or names or limit:
                raise UsageError("--results is measured without a model and without --limit")
            if not data:
                raise UsageError("--results needs --data, the truth to hold them against")
            dataset = data_to_score(data, split)
            truth = dataset.to_coco()
            found = read_results(results, truth)
            measured = evaluate_results(truth, found, score=score, details=True)
        else:
            net, info = open_model(checkpoint, model, weights, names, device=device, speed=optimize)
            data = data or own_data(info)
            if limit and data != "digits":
                raise UsageError("--limit is for digits, which are made to any number")
            dataset = data_for(info, data, split, limit)
            if save_results and dataset.task != "detection":
                raise UsageError(f"--save-results is for detectors, this is {dataset.task}")
            if dataset.whole and located(str(data)) == info.data.get("spec"):
                say(f"note: {data} has no splits: the model was trained on these pictures")
            net = named_as(net, info, dataset)
            with console.status("evaluating") as status:
                measured = evaluate(
                    net,
                    dataset,
                    device=next(net.parameters()).device,
                    batch_size=batch_size,
                    score=score,
                    max_damaged=max_damaged,
                    details=True,
                    progress=lambda done, of: status.update(f"evaluating {done}/{of}"),
                )
        metrics, title = measured.figures, f"{data} ({split or 'val'})"
        # files first: what was measured must not be lost to what comes after
        if json_out:
            named = "results" if results else "checkpoint"
            write_json(json_out, {named: source, "split": split or "val", **metrics})
        if save_results:
            write_results(save_results, measured.results)
        console.print(metrics_table(metrics, title))
        console.print(detail_table(metrics))
        say(f"{headline(metrics)}  ({volume(metrics)})")
        if plots:
            drawn = save_figures(metrics, plots)
            say(f"{', '.join(drawn)} {'is' if len(drawn) == 1 else 'are'} in {plots}")
        if report:
            facts = {"detections" if results else "model": source, "data": title}
            write_report(report, measured, dataset, title="Evaluation", facts=facts)
            say(f"the report is {report}")
