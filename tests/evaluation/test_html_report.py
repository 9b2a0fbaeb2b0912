import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from detcore.data import DigitPatches, Digits, DigitScenes
from detcore.evaluation.classification_metrics import classification_metrics
from detcore.evaluation.eval_plots import (
    class_marks,
    confusion,
    error_bars,
    png,
    precision_recall,
    save_figures,
)
from detcore.evaluation.evaluator import Measured, evaluate
from detcore.evaluation.html_report import write_report
from tests.helpers.oracle import Oracle, boxes_of


class Page(HTMLParser):
    """Parses a page: open tags, closed tags, texts and pictures."""

    def __init__(self, path):
        super().__init__()
        self.open, self.seen, self.texts, self.pictures = [], [], [], []
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag == "img":
            form, content = re.fullmatch(
                r"data:image/(\w+);base64,(.*)", dict(attributes)["src"]
            ).groups()
            picture = Image.open(io.BytesIO(base64.b64decode(content)))
            assert picture.format.lower() == form
            self.pictures.append(np.asarray(picture.convert("RGB")))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text.strip())


@pytest.fixture
def scenes():
    return Digits("val", length=4, scenes=DigitScenes(size=64))


def spoiled(answer):
    labels = answer["labels"].clone()
    labels[0] = labels[0] % 10 + 1
    return {k: v[: max(1, len(v) - 1)] for k, v in {**answer, "labels": labels}.items()}


def test_one_file_holds_figures_curves_and_the_worst_pictures(scenes, tmp_path):
    measured = evaluate(Oracle(scenes, boxes_of, spoiled), scenes, score=0.4, details=True)
    path = tmp_path / "new" / "report.html"
    facts = {"model": "<b>&"}
    write_report(path, measured, scenes, title="Evaluation of <x>", facts=facts)
    page = Page(path)
    assert "script" not in page.seen and "link" not in page.seen
    assert "http" not in page.raw
    text = " ".join(page.texts)
    figures = measured.figures
    for words in (
        "Evaluation of <x>", "model: <b>&", f"{figures['mAP']:.3f}", f"{figures['f1']:.3f}",
        "AR_large", f"{figures['voc'][0]['AP_11_point']:.3f}", "0.00 million",
        "images/s", "Confusion", "Errors by kind",
    ):  # fmt: skip
        assert words in text, words
    # curves, confusion, errors, and every picture, because each has a mistake
    assert len(page.pictures) == 3 + 4
    for name in (scenes.record(k).file_name for k in range(4)):
        assert re.search(rf"{name}: .*\b1 class\b", text)
    # ground truth left, prediction right; wrong boxes have their colour only on the right
    sheet = page.pictures[3].astype(int)
    red = (np.abs(sheet - (207, 34, 46)) < 60).all(2)
    middle = sheet.shape[1] // 2
    assert red[:, middle:].sum() > 500 > 50 > red[:, : middle - 10].sum()


def test_without_mistakes_there_are_no_pictures_of_them(scenes, tmp_path):
    measured = evaluate(Oracle(scenes, boxes_of), scenes, score=0.4, details=True)
    write_report(tmp_path / "r.html", measured, scenes, title="x", facts={})
    page = Page(tmp_path / "r.html")
    assert "There is no mistake in any." in page.texts
    assert len(page.pictures) == 3


def test_a_classifiers_surest_mistakes(tmp_path):
    data = DigitPatches("val", length=4)
    turn = {0: 1}  # only for the first picture
    first = int(data[0][1]["label"])

    def answer(target):
        label = int(target["label"])
        named = (label + turn.get(target["image_id"] - 1, 0)) % 10
        return {"scores": torch.eye(10)[named] * 0.75, "labels": torch.tensor([named])}

    measured = evaluate(Oracle(data, answer), data, details=True)
    write_report(tmp_path / "r.html", measured, data, title="x", facts={})
    page = Page(tmp_path / "r.html")
    text = " ".join(page.texts)
    assert f"{first}, named {(first + 1) % 10} (0.75)" in text
    assert "top-5 accuracy" in text
    assert len(page.pictures) == 2  # confusion, and the only mistake


def test_of_several_labels_there_is_a_line_a_class(tmp_path):
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.6, 0.8, 0.1], [0.1, 0.7, 0.1]])
    targets = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    figures = classification_metrics(scores, targets, ["a", "b", "c"])
    axes = class_marks(figures).axes[0]
    # c is in no picture and was never predicted
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    marks = {line.get_label(): line.get_xdata() for line in axes.lines}
    assert marks["recall"] == pytest.approx([0.5, 1])
    assert marks["AP"] == pytest.approx([(1 + 2 / 3) / 2, 1])
    assert set(marks) == {"precision", "recall", "F1", "AP"}
    assert save_figures(figures, tmp_path) == ["classes.png"]
    assert Image.open(tmp_path / "classes.png").format == "PNG"
    measured = Measured({**figures, "images": 3})
    write_report(tmp_path / "r.html", measured, DigitPatches("val", length=1), title="x", facts={})
    page = Page(tmp_path / "r.html")
    assert len(page.pictures) == 1
    assert "1 class is left out: it has no objects and no detections." in page.texts


def test_of_many_classes_those_of_the_lowest_f1_are_marked():
    row = {"precision": 0.5, "recall": 0.5, "AP": None, "objects": 1}
    rows = [{**row, "name": f"c{k}", "f1": 0.5 + (k < 3) / 4} for k in range(64)]
    labels = class_marks({"per_class": rows}).axes[0].get_yticklabels()
    assert [t.get_text() for t in labels] == [f"c{k}" for k in range(3, 63)]


def test_pictures_that_are_not_there_are_grey(scenes, tmp_path):
    from detcore.data import DamagedImage

    measured = evaluate(Oracle(scenes, boxes_of, spoiled), scenes, score=0.4, details=True)

    def gone(index):
        raise DamagedImage("no such picture")

    scenes.image = gone
    write_report(tmp_path / "r.html", measured, scenes, title="x", facts={})
    page = Page(tmp_path / "r.html")
    assert len(page.pictures) == 7
    assert (np.abs(page.pictures[3].astype(int) - 224) < 6).mean() > 0.5


def test_figures_are_pngs(scenes, tmp_path):
    metrics = evaluate(Oracle(scenes, boxes_of, spoiled), scenes, score=0.4, details=True).figures
    names = save_figures(metrics, tmp_path / "new")
    assert sorted(names) == sorted(p.name for p in (tmp_path / "new").iterdir())
    assert sorted(names) == ["confusion.png", "errors.png", "precision_recall.png"]
    assert all(Image.open(tmp_path / "new" / name).format == "PNG" for name in names)
    table = {"confusion": {"classes": ["a"], "matrix": [[1]]}}
    assert save_figures(table, tmp_path) == ["confusion.png"]
    bars = error_bars({"location": 3, "class": 0, "missed": 2}).axes[0].patches
    assert [b.get_width() for b in bars] == [3, 0, 2]


def test_a_large_confusion_matrix_leaves_out_empty_classes():
    names = [f"c{k}" for k in range(40)]
    matrix = np.zeros((40, 40), int)
    matrix[3, 3], matrix[3, 7] = 6, 2
    drawn = confusion({"classes": names, "matrix": matrix.tolist()}).axes[0]
    assert [t.get_text() for t in drawn.get_xticklabels()] == ["c3", "c7"]
    assert drawn.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert sorted(t.get_text() for t in drawn.texts) == ["2", "6"]
    few = confusion({"classes": names[:10], "matrix": matrix[:10, :10].tolist()}).axes[0]
    assert len(few.get_xticklabels()) == 10


def test_the_mean_curve_is_over_classes_with_objects():
    curves = {
        "recall": [0.0, 0.5, 1.0],
        "per_class": [
            {"name": "a", "precision": [1.0, 0.5, 0.0]},
            {"name": "b", "precision": [0.5, 0.5, 0.5]},
            {"name": "c", "precision": None},
        ],
    }
    metrics = {"curves": curves, "precision": 0.75, "recall": 0.5, "score": 0.3}
    figure = precision_recall(metrics)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    together = "all detections together, at confidence 0.3"
    assert set(lines) == {"a", "b", "mean of the classes", together}
    assert list(lines["mean of the classes"]) == [0.75, 0.5, 0.25]
    assert png(figure)[:4] == b"\x89PNG"
