import pytest
import torch

from detcore.data import Digits, DigitScenes
from detcore.inference.predictor import as_float, predict, to_json
from tests.helpers.oracle import Oracle, boxes_of


@pytest.fixture
def scenes():
    return Digits("val", length=12, scenes=DigitScenes(size=64))


def test_predict_keeps_the_models_mode_and_cuts_by_score(scenes):
    model = Oracle(scenes, boxes_of)
    images = [scenes[k][0] for k in range(5)]
    for mode in (True, False):
        model.train(mode)
        found = predict(model, images, batch_size=2, score=0.5)
        assert model.training is mode
        assert len(found) == 5
        assert all((f["scores"] >= 0.5).all() for f in found)
        assert all(len(f["boxes"]) == len(f["scores"]) == len(f["labels"]) for f in found)
    assert sum(len(f["scores"]) for f in found) < sum(
        len(a["scores"]) for a in predict(model, images)
    )


def test_images_become_float():
    out = as_float(
        [torch.full((3, 2, 2), 255, dtype=torch.uint8), torch.full((3, 2, 2), 0.5)], "cpu"
    )
    assert [float(i.max()) for i in out] == [1, 0.5]
    assert all(i.dtype == torch.float32 for i in out)


def test_json_is_sorted_and_named():
    image = torch.zeros(3, 20, 30)
    answer = {
        "boxes": torch.tensor([[0, 0, 5, 5], [1, 1, 9.12345, 1 / 3]]),
        "scores": torch.tensor([0.25, 0.75]),
        "labels": torch.tensor([1, 2]),
    }
    assert to_json(answer, ["a", "b"], image) == {
        "width": 30,
        "height": 20,
        "detections": [
            {"class": "b", "score": 0.75, "box": [1, 1, 9.12345, 0.33333334]},
            {"class": "a", "score": 0.25, "box": [0, 0, 5, 5]},
        ],
    }


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ([1], [("b", 0.75)]),
        ([1, 0], [("b", 0.75), ("a", 0.25)]),  # the best two
        ([0, 1], [("b", 0.75), ("a", 0.25)]),  # above a threshold, in class order
        ([], []),
    ],
)
def test_json_of_a_classifier_holds_what_it_named(labels, named):
    answer = {
        "scores": torch.tensor([0.25, 0.75, 0.125]),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    assert to_json(answer, ["a", "b", "c"], torch.zeros(3, 20, 30)) == {
        "width": 30,
        "height": 20,
        "classes": [{"class": name, "score": score} for name, score in named],
    }
