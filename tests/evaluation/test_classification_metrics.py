import pytest
import torch

from detcore.evaluation.classification_metrics import classification_metrics


def test_classes_by_hand():
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6]])
    figures = classification_metrics(scores, torch.tensor([0, 1, 1, 2]), ["a", "b", "c"])
    assert figures["accuracy"] == pytest.approx(3 / 4)
    assert [r["precision"] for r in figures["per_class"]] == pytest.approx([0.5, 1, 1])
    assert [r["recall"] for r in figures["per_class"]] == pytest.approx([1, 0.5, 1])
    assert figures["precision"] == pytest.approx(2.5 / 3)
    assert [r["objects"] for r in figures["per_class"]] == [1, 2, 1]


def test_several_labels_by_hand():
    scores = torch.tensor([[0.9, 0.2], [0.6, 0.8], [0.1, 0.7]])
    figures = classification_metrics(scores, torch.tensor([[1, 0], [0, 1], [1, 0]]), ["a", "b"])
    assert figures["accuracy"] == pytest.approx(3 / 6)
    assert [r["precision"] for r in figures["per_class"]] == pytest.approx([0.5, 0.5])
    assert [r["recall"] for r in figures["per_class"]] == pytest.approx([0.5, 1])
    with pytest.raises(ValueError, match=r"scores must be \[3, 4\], got \[3, 2\]"):
        classification_metrics(scores, torch.zeros(3, dtype=torch.long), list("abcd"))


def test_f1_top5_and_confusion_by_hand():
    scores = torch.zeros(3, 6)
    scores[0, 0] = 0.9  # right
    scores[1] = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.2, 0.1])  # 1 predicted as 0, rank 2
    scores[2] = torch.tensor([0.0, 0.2, 0.2, 0.2, 0.2, 0.2])  # 0 predicted as 1, last rank
    figures = classification_metrics(scores, torch.tensor([0, 1, 0]), list("abcdef"))
    assert figures["accuracy"] == pytest.approx(1 / 3)
    assert figures["top5_accuracy"] == pytest.approx(2 / 3)
    assert figures["per_class"][0] == {
        "name": "a", "precision": 0.5, "recall": 0.5, "f1": 0.5, "objects": 2
    }  # fmt: skip
    assert figures["micro"] == pytest.approx(dict.fromkeys(("precision", "recall", "f1"), 1 / 3))
    assert figures["confusion"]["classes"] == list("abcdef")
    assert [row[:2] for row in figures["confusion"]["matrix"][:2]] == [[1, 1], [1, 0]]
    five = classification_metrics(torch.eye(5), torch.arange(5), list("abcde"))
    assert five["top5_accuracy"] is None


def test_average_precision_of_labels_is_by_score_and_the_rest_by_what_was_named():
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.6, 0.8, 0.1], [0.1, 0.7, 0.1]])
    targets = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    named = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    figures = classification_metrics(scores, targets, list("abc"), named=named)
    assert (figures["accuracy"], figures["micro"]["f1"]) == (1, 1)
    # by score, class a is right, wrong, right; b is right first; c is in no picture
    average = [r["AP"] for r in figures["per_class"]]
    assert average == [pytest.approx((1 + 2 / 3) / 2), 1, None]
    assert figures["mAP"] == pytest.approx((5 / 6 + 1) / 2)
    halves = classification_metrics(scores, targets, list("abc"))["per_class"]
    assert [(r["matched"], r["wrong"], r["missed"]) for r in halves] == [
        (1, 1, 1), (1, 1, 0), (0, 0, 0)
    ]  # fmt: skip


def test_one_class_is_measured_too():
    figures = classification_metrics(torch.ones(3, 1), torch.zeros(3, dtype=torch.long), ["a"])
    shares = dict.fromkeys(("precision", "recall", "f1"), 1.0)
    assert figures == {
        "accuracy": 1, **shares, "micro": shares, "top5_accuracy": None,
        "confusion": {"classes": ["a"], "matrix": [[3]]},
        "per_class": [{"name": "a", **shares, "objects": 3}],
    }  # fmt: skip


def test_one_label_is_measured_too():
    scores, targets = torch.tensor([[0.9], [0.8], [0.3], [0.2]]), torch.tensor([[1], [0], [1], [0]])
    figures = classification_metrics(scores, targets, ["a"])
    halves = dict.fromkeys(("precision", "recall", "f1"), 0.5)
    average = pytest.approx((1 + 2 / 3) / 2)
    counts = {"objects": 2, "matched": 1, "wrong": 1, "missed": 1}
    assert figures == {
        "accuracy": 0.5, **halves, "micro": halves, "mAP": average,
        "per_class": [{"name": "a", **halves, **counts, "AP": average}],
    }  # fmt: skip
