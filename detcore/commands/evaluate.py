"""detcore eval."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from torch import nn

    from detcore.checkpoints.checkpoint import CheckpointInfo
    from detcore.data import AnyDataset
    from detcore.evaluation.evaluator import Measured

EXAMPLES = examples(
    "detcore eval --checkpoint runs/mine --split val --report report.html",
    "detcore eval --model ssd300_vgg16 --weights torchvision --data path/to/coco",
    "detcore eval --results dets.json --data coco.json",
    "detcore eval --results results/data --data kitti:path/to/kitti --kitti",
)


def evaluate_command(
    given: typer.Context,
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
            "file_name and category_name if present, else by ids. With --kitti: the folder of the "
            "result files.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    kitti: Annotated[
        bool,
        typer.Option(
            "--kitti",
            help="Measure --results FOLDER by KITTI's rules: 2D, bird's-eye and 3D AP, and AOS.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    kitti_points: Annotated[
        int | None,
        typer.Option(
            help="Number of recalls that --kitti takes the mean of. Default: 40.",
            metavar="[40|11]",
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
    score_threshold: Annotated[
        float | None,
        typer.Option(
            help="Lowest score that the model returns; mAP uses all above it. Default: 0.001; "
            "torchvision's published models have their own.",
            min=0,
            max=1,
            rich_help_panel=MODEL,
        ),
    ] = None,
    nms_threshold: Annotated[
        float | None,
        typer.Option(
            help="IoU above which the model's NMS drops one of two boxes. Default: the model's.",
            min=0,
            max=1,
            rich_help_panel=MODEL,
        ),
    ] = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            help="Most detections per picture that the model returns; COCO's mAP counts 100 per "
            "class and picture at most. Default: the model's.",
            min=1,
            max=100_000,
            rich_help_panel=MODEL,
        ),
    ] = None,
    voc_iou: Annotated[
        list[float] | None,
        typer.Option(
            help="IoU at which VOC's average precision is taken; may be repeated. Default: 0.5.",
            min=0.01,
            max=1,
            rich_help_panel=MODEL,
        ),
    ] = None,
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
        from detcore.checkpoints.load_model import open_model
        from detcore.commands.model_data import own_data
        from detcore.commands.output_paths import check_outputs, inputs_of
        from detcore.commands.threads import set_threads
        from detcore.evaluation.thresholds import Thresholds
        from detcore.evaluation.voc_metrics import VOC_IOU

        set_threads(threads)
        if kitti:
            from detcore.commands.evaluate_kitti import evaluate_kitti

            evaluate_kitti(
                given,
                data=data,
                split=split,
                results=results,
                points=kitti_points,
                json_out=json_out,
            )
            return
        _refuse({"--kitti-points": kitti_points}, "{option} is for --kitti")
        files_out = {"--json": json_out, "--report": report, "--save-results": save_results}
        read = inputs_of(results, checkpoint, weights, names, data=data)
        check_outputs(files=files_out, folders={"--plots": plots}, inputs=read)
        of_model: dict[str, Any] = {
            "--checkpoint": checkpoint,
            "--model": model,
            "--weights": weights,
            "--names": names,
            "--limit": limit,
        }
        of_detector = {
            "--score-threshold": score_threshold,
            "--nms-threshold": nms_threshold,
            "--max-detections": max_detections,
        }
        ious = list(dict.fromkeys(voc_iou or VOC_IOU))
        wanted: dict[str, Any] = {"score": score, "voc_iou": ious}
        if results:
            _refuse(
                {**of_model, **of_detector},
                "--results is measured without a model and without {option}",
            )
            measured, dataset = _measure_results(results, data, split, wanted)
        else:
            net, info = open_model(checkpoint, model, weights, names, device=device, speed=optimize)
            if info.task != "detection":
                without = {**of_detector, "--voc-iou": voc_iou, "--save-results": save_results}
                _refuse(without, f"{{option}} is for detectors, this is {info.task}")
            data = data or own_data(info)
            net, dataset = _with_data(net, info, data, split, limit)
            wanted |= {
                "batch_size": batch_size,
                "max_damaged": max_damaged,
                "thresholds": Thresholds(score_threshold, nms_threshold, max_detections),
            }
            measured = _measure_model(net, dataset, wanted)
        source = {"results" if results else "checkpoint": str(results or checkpoint or model)}
        shown = _Shown(measured, dataset, source, str(data), split or "val")
        # files first: what was measured must not be lost to what comes after
        shown.write(json_out, save_results)
        shown.print()
        shown.draw(plots, report)


def _refuse(options: dict[str, Any], why: str) -> None:
    """Raise UsageError, which names it, for an option that was given; `why` has its place."""
    from detcore.utils.errors import UsageError

    for option, value in options.items():
        if value is not None:
            raise UsageError(why.format(option=option))


def _measure_results(
    results: Path, data: str | None, split: str | None, wanted: dict[str, Any]
) -> tuple[Measured, AnyDataset]:
    from detcore.evaluation.coco_results import (
        are_oriented,
        checked_results,
        data_to_score,
        read_results,
    )
    from detcore.evaluation.evaluator import evaluate_results
    from detcore.utils.errors import UsageError

    if not data:
        raise UsageError("--results needs --data, the truth to hold them against")
    if results.is_dir():
        raise UsageError(f"--results {results} is a folder; --kitti measures one in KITTI's form")
    entries = read_results(results)
    oriented = are_oriented(entries)
    dataset = data_to_score(data, split, oriented=oriented)
    truth = dataset.to_coco()
    found = checked_results(results, entries, truth, oriented=oriented)
    return evaluate_results(truth, found, details=True, **wanted), dataset


def _with_data(
    net: nn.Module, info: CheckpointInfo, data: str | None, split: str | None, limit: int | None
) -> tuple[nn.Module, AnyDataset]:
    """The data to measure a model on, and the model with that data's labels."""
    from detcore.checkpoints.load_model import named_as
    from detcore.commands.model_data import data_for, located
    from detcore.utils.errors import UsageError

    if limit and data != "digits":
        raise UsageError("--limit is for digits, which are made to any number")
    dataset = data_for(info, data, split, limit)
    if dataset.whole and located(str(data)) == info.data.get("spec"):
        say(f"note: {data} has no splits: the model was trained on these pictures")
    return named_as(net, info, dataset), dataset


def _measure_model(net: nn.Module, dataset: AnyDataset, wanted: dict[str, Any]) -> Measured:
    from detcore.evaluation.evaluator import evaluate

    with console.status("evaluating") as status:
        return evaluate(
            net,
            dataset,
            device=next(net.parameters()).device,
            details=True,
            progress=lambda done, of: status.update(f"evaluating {done}/{of}"),
            **wanted,
        )


@dataclass(frozen=True)
class _Shown:
    """What was measured, on its way to files and to the terminal.

    source: the model or the detections, as `--json` names them. data, split: as asked for.
    """

    measured: Measured
    dataset: AnyDataset
    source: dict[str, str]
    data: str
    split: str

    @property
    def title(self) -> str:
        return f"{self.data} ({self.split})"

    def write(self, json_out: Path | None, save_results: Path | None) -> None:
        from detcore.inference.export_formats import write_results
        from detcore.utils.atomic_write import write_json

        if json_out:
            write_json(json_out, {**self.source, "split": self.split, **self.measured.figures})
        if save_results:
            write_results(save_results, self.measured.results)

    def print(self) -> None:
        from detcore.commands.console_tables import (
            detail_table,
            headline,
            metrics_table,
            used_thresholds,
            volume,
        )

        metrics = self.measured.figures
        console.print(metrics_table(metrics, self.title))
        console.print(detail_table(metrics))
        say(f"{headline(metrics)}  ({volume(metrics)})")
        if metrics["task"] == "detection":
            say(used_thresholds(metrics))

    def draw(self, plots: Path | None, report: Path | None) -> None:
        from detcore.evaluation.eval_plots import save_figures
        from detcore.evaluation.html_report import write_report

        if plots:
            drawn = save_figures(self.measured.figures, plots)
            say(f"{', '.join(drawn)} {'is' if len(drawn) == 1 else 'are'} in {plots}")
        if report:
            ((kind, name),) = self.source.items()
            facts = {"detections" if kind == "results" else "model": name, "data": self.title}
            write_report(report, self.measured, self.dataset, title="Evaluation", facts=facts)
            say(f"the report is {report}")
