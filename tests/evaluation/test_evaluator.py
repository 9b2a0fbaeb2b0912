import pytest
import torch

from detcore.data import Digits, DigitScenes
from detcore.evaluation.evaluator import coco_results, detection_figures, evaluate
from tests.helpers.documents import found, truth
from tests.helpers.oracle import Oracle, boxes_of


@pytest.fixture
def scenes():
    return Digits("val", length=12, scenes=DigitScenes(size=64))


def test_a_perfect_detector_scores_one(scenes):
    seen = []
    figures = evaluate(
        Oracle(scenes, boxes_of),
        scenes,
        batch_size=5,
        score=0.4,
        progress=lambda done, of: seen.append((done, of)),
    ).figures
    for name in ("mAP", "AP50", "precision", "recall", "mean_iou"):
        assert figures[name] == pytest.approx(1), name
    assert figures["images"] == 12
    assert seen == [(5, 12), (10, 12), (12, 12)]
    assert all(r["precision"] in (1, None) and "AP" in r for r in figures["per_class"])
    assert [r["name"] for r in figures["per_class"]] == scenes.classes


def test_details_agree_with_each_other(scenes):
    def spoil(answer):
        # the first detection of each picture gets a wrong label, the last is removed
        labels = answer["labels"].clone()
        labels[0] = labels[0] % 10 + 1
        return {k: v[:-1] for k, v in {**answer, "labels": labels}.items()}

    figures = evaluate(Oracle(scenes, boxes_of, spoil), scenes, score=0.4, details=True).figures
    matrix = torch.tensor(figures["confusion"]["matrix"])
    rows = figures["per_class"]
    assert matrix.diagonal().tolist() == [r["matched"] for r in rows] + [0]
    assert (matrix.sum(0) - matrix.diagonal())[:-1].tolist() == [r["wrong"] for r in rows]
    assert (matrix.sum(1) - matrix.diagonal())[:-1].tolist() == [r["missed"] for r in rows]
    errors = figures["errors"]["counts"]
    assert errors["class"] > 0
    assert sum(v for k, v in errors.items() if k != "missed") == sum(r["wrong"] for r in rows)
    assert len(figures["curves"]["per_class"]) == 10
    assert [voc["iou"] for voc in figures["voc"]] == [0.5]
    assert 0 < figures["voc"][0]["AP_all_point"] < 1
    assert figures["best_confidence"]["f1"] >= figures["f1"]
    plain = evaluate(Oracle(scenes, boxes_of, spoil), scenes, score=0.4).figures
    same = {k: v for k, v in figures.items() if k in plain and "second" not in k}
    assert same == {k: v for k, v in plain.items() if "second" not in k}


def test_voc_at_several_ious(scenes):
    def shift(answer):
        return {**answer, "boxes": answer["boxes"] + 3}

    oracle = Oracle(scenes, boxes_of, shift)
    one = evaluate(oracle, scenes, score=0.4, details=True).figures
    two = evaluate(oracle, scenes, score=0.4, details=True, voc_iou=[0.5, 0.75]).figures
    assert [voc["iou"] for voc in two["voc"]] == [0.5, 0.75]
    assert two["voc"][0] == one["voc"][0]
    assert two["voc"][1]["AP_all_point"] < two["voc"][0]["AP_all_point"]
    rest = [k for k in one if k != "voc" and "second" not in k]
    assert {k: one[k] for k in rest} == {k: two[k] for k in rest}


def test_wrong_labels_and_shifted_boxes_cost(scenes):
    def relabel(answer):
        answer["labels"] = answer["labels"] % 10 + 1
        return answer

    def shift(answer):
        answer["boxes"] = answer["boxes"] + 3
        return answer

    assert evaluate(Oracle(scenes, boxes_of, relabel), scenes).figures["AP50"] < 0.2
    shifted = evaluate(Oracle(scenes, boxes_of, shift), scenes).figures
    assert shifted["mAP"] < shifted["AP50"]
    assert 0.4 < shifted["mean_iou"] < 0.9


def test_a_classifier_is_measured():
    from detcore.data import DigitPatches

    data = DigitPatches("val", length=20)

    def onehot(target):
        return {"scores": torch.eye(10)[target["label"]], "labels": target["label"][None]}

    figures = evaluate(Oracle(data, onehot), data).figures
    assert figures["accuracy"] == 1
    assert figures["task"] == "classification"

    def wrong(answer):
        return {"scores": answer["scores"].roll(1), "labels": answer["labels"]}

    assert evaluate(Oracle(data, onehot, wrong), data).figures["accuracy"] == 0


def test_results_carry_category_ids_and_xywh():
    answer = {
        "boxes": torch.tensor([[1.0, 2, 4, 8]]),
        "scores": torch.tensor([0.5]),
        "labels": torch.tensor([2]),
    }
    assert coco_results([answer], [77], [3, 90]) == [
        {"image_id": 77, "category_id": 90, "bbox": [1, 2, 3, 6], "score": 0.5}
    ]


def test_several_labels_are_measured_by_the_models_own_thresholds():
    class Labelled:
        task, classes = "classification", ["a", "b"]

        def __len__(self):
            return 2

        def __getitem__(self, k):
            labels = torch.tensor([[1, 0], [0, 1]])[k]
            return torch.full((3, 4, 4), k, dtype=torch.uint8), {"image_id": k, "labels": labels}

    def answer(target):
        # with 0.5 "a" is never right; with a threshold of 0.2 for "a" all are right
        scores = torch.tensor([[0.3, 0.1], [0.1, 0.9]])[target["image_id"]]
        named = (scores > torch.tensor([0.2, 0.5])).nonzero()[:, 0]
        return {"scores": scores, "labels": named}

    data = Labelled()
    figures = evaluate(Oracle(data, answer), data).figures
    assert figures["accuracy"] == figures["precision"] == figures["recall"] == 1

    def silent(found):
        return {**found, "labels": found["labels"][:0]}

    assert evaluate(Oracle(data, answer, silent), data).figures["recall"] == 0


def test_a_picture_beyond_cocos_limit_is_told_of(caplog):
    boxes = [[10 * (k % 50), 10 * (k // 50), 8, 8] for k in range(150)]
    document = truth(*((1, 5, box) for box in boxes))
    results = found(*((1, 5, box, 0.9) for box in boxes))
    figures = detection_figures(document, results)
    assert figures["mAP"] < 0.7
    assert "1 picture with more than 100 objects of one class: COCO's mAP takes" in caplog.text
    caplog.clear()
    detection_figures(document, results[:100])
    detection_figures(truth(*((1, 5, box) for box in boxes[:100])), results[:100])
    assert "100 detections" not in caplog.text
