"""An evaluation as one HTML file that needs nothing else: figures, curves, the worst pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from detcore.data import AnyDataset, DamagedImage, DetectionDataset
from detcore.data.images import resized
from detcore.evaluation import eval_plots
from detcore.evaluation.coco_metrics import COCO_FIGURES
from detcore.evaluation.error_analysis import Mistakes, mistakes_of, worst
from detcore.evaluation.evaluator import Measured, shown_rows
from detcore.evaluation.matching import FORGIVEN, match_images
from detcore.evaluation.thresholds import in_words
from detcore.inference.draw import Colour, Row, draw_boxes, overview
from detcore.utils.atomic_write import write_text
from detcore.utils.json_types import Json
from detcore.utils.text import counted

_RIGHT: Colour = (38, 127, 62)
_WRONG: Colour = (207, 34, 46)
_UNFOUND: Colour = (9, 105, 218)
_OUT_OF_COUNT: Colour = (140, 140, 140)
_WORST = 12
_SIDE = 640  # longest side of a picture, pixels
_SMALL = 320  # the same, of a classifier's

_HEADLINE = (
    ("mAP", "mAP"),
    ("AP50", "AP50"),
    ("AP75", "AP75"),
    ("accuracy", "accuracy"),
    ("top5_accuracy", "top-5 accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("mean_iou", "mean IoU"),
    ("angle_error", "angle error, degrees"),
)
_KINDS = (
    ("location", "on an object of its class, at an IoU from 0.1 to below 0.5"),
    ("class", "on an object of another class, at an IoU of 0.5 or more"),
    ("duplicate", "on an object that a surer detection found already"),
    ("background", "on nothing: no object at an IoU of 0.1 or more"),
    ("both", "class and location wrong"),
    ("missed", "an object that nothing found, and no location or class error is about"),
)
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff;
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid #d1d9e0; }
p { max-width: 75ch; }
.note { color: #59636e; }
.cards { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1.2rem 0; }
.card { border: 1px solid #d1d9e0; border-radius: 8px; padding: .5rem 1rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eaeef2; }
th { font-weight: 600; }
th:first-child, td:first-child, .text td { text-align: left; }
img { max-width: 100%; height: auto; }
.side { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.side img { max-width: min(100%, 530px); }
table { margin: .4rem 0; }
figure { margin: 1.2rem 0; }
figcaption { overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 1rem; }
.grid table { margin: .4rem 0; }
figure { margin: 0; }
.key { font-weight: 600; }
"""


def write_report(
    path: Path, measured: Measured, dataset: AnyDataset, *, title: str, facts: Json
) -> None:
    """Write an evaluation as one HTML file, whole or not at all; folders are made.

    Pictures are in it, there are no scripts, and nothing is loaded from elsewhere.

    Args:
        measured: with details. dataset: what it was measured on; gives the worst pictures their
            pixels, or grey where there is no readable file.
        title: heading. facts: what else to say at the top, by name.

    Deterministic but for the speed that `measured` holds.
    """
    metrics = measured.figures
    parts = [_head(title, facts, metrics)]
    if isinstance(dataset, DetectionDataset):
        parts += [_detection(metrics), _worst_detections(measured, dataset)]
    else:
        parts += [_classification(metrics), _worst_answers(measured, dataset)]
    parts.append(_per_class(metrics))
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)


def _head(title: str, facts: Json, metrics: Json) -> str:
    shown = {**facts, "pictures": metrics["images"]}
    if "parameters" in metrics:
        shown["parameters"] = f"{metrics['parameters'] / 1e6:.2f} million"
        shown["speed"] = f"{metrics['images_per_second']:g} images/s, without reading them"
    if "thresholds" in metrics:
        shown["thresholds"] = in_words(metrics["thresholds"])
    said = "<br>".join(f"{escape(k)}: {escape(str(v))}" for k, v in shown.items())
    cards = "".join(
        f'<div class="card">{label}<b>{metrics[key]:.3f}</b></div>'
        for key, label in _HEADLINE
        if metrics.get(key) is not None
    )
    return f'<h1>{escape(title)}</h1>\n<p class="note">{said}</p>\n<div class="cards">{cards}</div>'


def _detection(metrics: Json) -> str:
    at = f"{metrics['score']:g}"
    said = f"Precision, recall and F1, confusion and errors are taken at confidence {at}, IoU 0.5."
    if best := metrics["best_confidence"]:
        said += f" F1 is highest, {best['f1']:.3f}, at confidence {best['score']:.3f}."
    half = len(COCO_FIGURES) // 2
    tables = [
        _table(("", *names), [("COCO", *(metrics[k] for k in names))])
        for names in (COCO_FIGURES[:half], COCO_FIGURES[half:])
    ]
    ways = ("AP_11_point", "AP_all_point")
    rows = [(f"VOC, IoU {voc['iou']:g}", *(voc[k] for k in ways)) for voc in metrics["voc"]]
    if dota := metrics.get("dota"):
        rows.append((f"DOTA, IoU {dota['iou']:g}", *(dota[k] for k in ways)))
    tables.append(_table(("", *ways), rows))
    return "\n".join(
        [
            f"<p>{said}</p>",
            f"<h2>Average precision and recall</h2>{''.join(tables)}",
            "<h2>Precision and recall</h2>",
            _image(eval_plots.png(eval_plots.precision_recall(metrics)), "precision-recall curves"),
            "<h2>Confusion</h2>",
            _image(eval_plots.png(eval_plots.confusion(metrics["confusion"])), "confusion matrix"),
            '<h2>Errors by kind</h2><div class="side">',
            _image(
                eval_plots.png(eval_plots.error_bars(metrics["errors"]["counts"])), "errors by kind"
            ),
            '<table class="text">',
            *(f"<tr><td><b>{name}</b></td><td>{text}</td></tr>" for name, text in _KINDS),
            "</table></div>",
        ]
    )


def _classification(metrics: Json) -> str:
    micro = metrics["micro"]
    macro = [("mean over classes", *(metrics[k] for k in micro))]
    means = _table(("", *micro), [*macro, ("over all answers", *micro.values())])
    parts = [f"<h2>Means</h2>{means}"]
    if "confusion" in metrics:
        drawn = eval_plots.png(eval_plots.confusion(metrics["confusion"]))
        parts.append(f"<h2>Confusion</h2>{_image(drawn, 'confusion matrix')}")
    else:
        drawn = eval_plots.png(eval_plots.class_marks(metrics))
        parts.append(f"<h2>By class</h2>{_image(drawn, 'precision, recall, F1 and AP by class')}")
    return "\n".join(parts)


def _per_class(metrics: Json) -> str:
    rows = shown_rows(metrics)
    columns = [k for k in rows[0] if k != "name"] if rows else []
    cells = [(row["name"], *(row[c] for c in columns)) for row in rows]
    left_out = len(metrics["per_class"]) - len(rows)
    said = counted(left_out, "class is left out: it has", "classes are left out: they have")
    note = f"<p>{said} no objects and no detections.</p>"
    return f"<h2>Classes</h2>{note if left_out else ''}{_table(('class', *columns), cells)}"


def _worst_detections(measured: Measured, dataset: DetectionDataset) -> str:
    score = measured.figures["score"]
    mistakes = [mistakes_of(m) for m in match_images(measured.truth, measured.results, score=score)]
    index_of = {dataset.record(k).image_id: k for k in range(len(dataset))}
    names = {c["id"]: c["name"] for c in measured.truth["categories"]}
    drawn = []
    for one in worst(mistakes, _WORST):
        index = index_of[one.match.image_id]
        image, factor = _fitted(_pixels(dataset, index))
        sides = (_truth_rows(one, names, factor), _found_rows(one, names, factor))
        sheet = overview([draw_boxes(image, rows, enlarge=False) for rows in sides], columns=2)
        drawn.append(_shown(sheet, f"{dataset.record(index).file_name}: {_counted(one)}"))
    if not drawn:
        return "<h2>The worst pictures</h2><p>There is no mistake in any.</p>"
    keys = (
        (_RIGHT, "found, or right"),
        (_UNFOUND, "not found"),
        (_WRONG, "wrong, with the kind of error"),
        (_OUT_OF_COUNT, "on what is to be ignored"),
    )
    key = ", ".join(f'<span class="key" style="color:rgb{c}">{text}</span>' for c, text in keys)
    return (
        f"<h2>The worst pictures</h2><p>Left the truth, right what was predicted: {key}. First "
        "come those with the greatest sum of wrong detections' confidences and objects missed."
        "</p>\n" + "\n".join(drawn)
    )


def _truth_rows(one: Mistakes, names: dict[int, str], factor: float) -> list[Row]:
    return [
        (_on_page(a["bbox"], factor), names[a["category_id"]], _UNFOUND if free else _RIGHT)
        for a, free in zip(one.match.objects, one.match.unfound, strict=True)
    ]


def _found_rows(one: Mistakes, names: dict[int, str], factor: float) -> list[Row]:
    rows: list[Row] = []
    for r, partner, kind in zip(one.match.detections, one.match.partner, one.kinds, strict=True):
        colour = _WRONG if kind else _OUT_OF_COUNT if partner == FORGIVEN else _RIGHT
        text = f"{names[r['category_id']]} {r['score']:.2f}"
        rows.append((_on_page(r["bbox"], factor), f"{text}: {kind}" if kind else text, colour))
    # mistakes on top of what is right, the surest of all last
    return sorted(reversed(rows), key=lambda row: row[2] == _WRONG)


def _counted(one: Mistakes) -> str:
    counts: dict[str, int] = {}
    for kind in one.kinds:
        if kind:
            counts[kind] = counts.get(kind, 0) + 1
    if missed := int(one.missed.sum()):
        counts["missed"] = missed
    return ", ".join(f"{n} {kind}" for kind, n in counts.items())


def _worst_answers(measured: Measured, dataset: AnyDataset) -> str:
    wrong = [a for a in measured.answers if a["truth"] != a["named"]]
    drawn = []
    for one in sorted(wrong, key=lambda a: -a["score"])[:_WORST]:
        said = [
            ", ".join(dataset.classes[k] for k in one[key]) or "nothing"
            for key in ("truth", "named")
        ]
        image, _ = _fitted(_pixels(dataset, one["index"]), _SMALL)
        caption = f"{said[0]}, named {said[1]} ({one['score']:.2f})"
        drawn.append(_shown(draw_boxes(image, [], enlarge=False), caption))
    if not drawn:
        return "<h2>The worst mistakes</h2><p>There is none.</p>"
    return f'<h2>The surest mistakes</h2><div class="grid">{"".join(drawn)}</div>'


def _pixels(dataset: AnyDataset, index: int) -> Tensor:
    try:
        return dataset.image(index)
    except DamagedImage:
        width, height = 640, 480
        if isinstance(dataset, DetectionDataset):
            width, height = dataset.size(index)
        # grey, of its shape: no annotation may ask for terabytes
        shrink = min(1.0, _SIDE / max(width, height))
        sides = [max(1, round(side * shrink)) for side in (height, width)]
        return torch.full((3, *sides), 224, dtype=torch.uint8)


def _fitted(image: Tensor, longest: int = _SIDE) -> tuple[Tensor, float]:
    """The image at the size of the page, so that tags are readable there, and its factor."""
    factor = longest / max(image.shape[-2:])
    size = [max(1, round(side * factor)) for side in image.shape[-2:]]
    return resized(image, size), factor


def _on_page(bbox: Sequence[float], factor: float) -> Sequence[float]:
    """A box to draw, pixels of the page: xyxy of xywh, or cxcywhr, in the image's."""
    if len(bbox) == 5:
        return [*(side * factor for side in bbox[:4]), bbox[4]]
    x, y, width, height = (side * factor for side in bbox)
    return x, y, x + width, y + height


def _shown(picture: Image.Image, caption: str) -> str:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    image = _image(stream.getvalue(), caption, "jpeg")
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _image(content: bytes, text: str, form: str = "png") -> str:
    inlined = base64.b64encode(content).decode("ascii")
    return f'<img alt="{escape(text)}" src="data:image/{form};base64,{inlined}">'


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row)}</tr>\n" for row in rows
    )
    return f'<div class="wide"><table><tr>{titles}</tr>\n{lines}</table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
