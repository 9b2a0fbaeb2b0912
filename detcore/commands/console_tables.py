"""A run and its figures as they are seen on a terminal, or in a log file without one."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from detcore.evaluation.evaluator import shown_rows
from detcore.evaluation.thresholds import in_words
from detcore.utils.json_types import Json
from detcore.utils.text import counted

# kinds of `error_analysis.KINDS`, in words that need no explanation
_ERRORS = {
    "location": "box off the object",
    "class": "wrong class",
    "duplicate": "object found twice",
    "background": "nothing there",
    "both": "box off and wrong class",
    "missed": "objects missed",
}


def headline(metrics: Json) -> str:
    """The figures that matter most, in one line."""
    wanted = ("mAP", "AP50", "AP75", "accuracy", "precision", "recall", "f1", "mean_iou")
    said = [f"{k} {metrics[k]:.3f}" for k in wanted if metrics.get(k) is not None]
    if metrics.get("angle_error") is not None:
        said.append(f"angle error {metrics['angle_error']:.2f} degrees")
    return "  ".join(said)


def volume(metrics: Json) -> str:
    """How much was measured, and what it took: pictures, speed, parameters of the model."""
    text = counted(metrics["images"], "image", "images")
    if "parameters" in metrics:
        text += f", {metrics['images_per_second']} images/s"
        text += f", {metrics['parameters'] / 1e6:.2f} million parameters"
    return text


def used_thresholds(metrics: Json) -> str:
    """What a detector was asked for, and at which confidence the rest was counted."""
    counted_at = f"precision, recall and errors at confidence {metrics['score']:g}"
    if "thresholds" not in metrics:
        return counted_at
    return f"thresholds: {in_words(metrics['thresholds'])}; {counted_at}"


def metrics_table(metrics: Json, title: str) -> Table:
    """`detcore.evaluation.evaluator`'s figures: one row per `shown_rows` class, one for all."""
    # spaces for rules between columns: ten of them must fit 80 characters
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    columns = [k for k in metrics["per_class"][0] if k != "name"]
    for name in ("class", *columns):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in shown_rows(metrics):
        table.add_row(row["name"], *(_figure(row[c]) for c in columns))
    table.add_section()
    # what is called AP for one class is called mAP for all
    whole = {
        **metrics,
        "AP": metrics.get("mAP"),
        "objects": sum(r["objects"] for r in metrics["per_class"]),
    }
    for count in ("matched", "wrong", "missed"):
        whole[count] = sum(r.get(count, 0) for r in metrics["per_class"])
    table.add_row("all", *(_figure(whole[c]) for c in columns), style="bold")
    return table


def detail_table(metrics: Json) -> Table:
    """What `metrics_table` has no column for: by size and number, VOC's rule, kinds of error."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))

    def add(text: str, keys: tuple[str, ...], where: Json) -> None:
        table.add_row(text, "  ".join(_figure(where[k]) for k in keys))

    if metrics["task"] == "detection":
        add("AP small, medium, large", ("AP_small", "AP_medium", "AP_large"), metrics)
        add("AR small, medium, large", ("AR_small", "AR_medium", "AR_large"), metrics)
        add("AR of 1, 10, 100 detections", ("AR1", "AR10", "AR100"), metrics)
        for voc in metrics["voc"]:
            named = f"VOC AP{100 * voc['iou']:g}, 11 and all points"
            add(named, ("AP_11_point", "AP_all_point"), voc)
        if dota := metrics.get("dota"):
            named = f"DOTA AP{100 * dota['iou']:g}, 11 and all points"
            add(named, ("AP_11_point", "AP_all_point"), dota)
        if best := metrics["best_confidence"]:
            table.add_row("highest F1", f"{best['f1']:.3f} at confidence {best['score']:.3f}")
        counts = metrics["errors"]["counts"]
        said = (f"{n} {_ERRORS.get(kind, kind)}" for kind, n in counts.items())
        table.add_row("errors", ", ".join(said))
        return table
    add("precision, recall, F1 over all answers", ("precision", "recall", "f1"), metrics["micro"])
    if metrics.get("top5_accuracy") is not None:
        add("top-5 accuracy", ("top5_accuracy",), metrics)
    return table


def _figure(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
