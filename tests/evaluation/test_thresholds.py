"""What a detector is asked for while it is measured: each threshold alone, defaults by kind."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from detcore.data import DigitPatches, Digits, DigitScenes
from detcore.evaluation.evaluator import evaluate
from detcore.evaluation.thresholds import Thresholds, begin_training, measured_with
from detcore.models import Cascade, MultiTask, create, optimize
from detcore.parts.postprocess import Postprocess
from detcore.parts.preprocess import ImageBatch
from detcore.weights import load_torchvision
from tests.helpers.oracle import Oracle, boxes_of

# the second box has an IoU of 2/3 with the first
BOXES = [[0, 0, 20, 20], [0, 4, 20, 24], [30, 0, 40, 10], [30, 20, 40, 30], [30, 40, 40, 50]]
SCORES = [0.9, 0.8, 0.03, 0.003, 0.0003]
SMALL = {"backbone": "test_resnet", "image_size": 64}


class Planted(nn.Module):
    """Finds the same five boxes in every picture, and returns what its thresholds leave of them."""

    def __init__(self, **thresholds):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.postprocess = Postprocess(**thresholds)

    def forward(self, images):
        sizes = [(64, 64)] * len(images)
        batch = ImageBatch(torch.stack(list(images)), sizes, sizes)
        boxes = torch.tensor(BOXES, dtype=torch.float32).expand(len(images), -1, -1)
        scores = torch.tensor(SCORES)[:, None].expand(len(images), -1, -1)
        return self.postprocess(boxes, scores, batch).per_image()


@pytest.fixture(scope="module")
def scenes():
    return Digits("val", length=3, scenes=DigitScenes(size=64))


def measured(scenes, model, **options):
    """The scores of each picture's detections, and the thresholds told."""
    result = evaluate(model, scenes, **options)
    ids = sorted({i["id"] for i in result.truth["images"]})
    scores = [[r["score"] for r in result.results if r["image_id"] == k] for k in ids]
    assert scores[0] == scores[1] == scores[2]
    return [SCORES.index(round(score, 5)) for score in scores[0]], result.figures["thresholds"]


@pytest.mark.parametrize(
    ("given", "rows", "used"),
    [
        ({}, [0, 2, 3], {"score": 0.001, "nms": 0.5, "max_detections": 100}),
        ({"score": 0.01}, [0, 2], {"score": 0.01, "nms": 0.5, "max_detections": 100}),
        ({"score": 0}, [0, 2, 3, 4], {"score": 0, "nms": 0.5, "max_detections": 100}),
        ({"nms": 0.7}, [0, 1, 2, 3], {"score": 0.001, "nms": 0.7, "max_detections": 100}),
        ({"max_detections": 2}, [0, 2], {"score": 0.001, "nms": 0.5, "max_detections": 2}),
        (
            {"score": 0.5, "nms": 0.7, "max_detections": 7},
            [0, 1],
            {"score": 0.5, "nms": 0.7, "max_detections": 7},
        ),
    ],
)
def test_each_threshold_is_its_own(scenes, given, rows, used):
    assert measured(scenes, Planted(), thresholds=Thresholds(**given)) == (rows, used)


def test_the_confidence_of_precision_is_another_matter(scenes):
    model = Planted()
    low, high = (evaluate(model, scenes, score=score) for score in (0.01, 0.5))
    assert low.results == high.results
    assert low.figures["thresholds"] == high.figures["thresholds"]
    assert (low.figures["score"], high.figures["score"]) == (0.01, 0.5)
    assert low.figures["mAP"] == high.figures["mAP"]
    cut = evaluate(model, scenes, score=0.01, thresholds=Thresholds(score=0.02)).figures
    told = ("precision", "recall", "f1", "score")
    assert {k: cut[k] for k in told} == {k: low.figures[k] for k in told}


@pytest.mark.parametrize("iou", [0.5, None])
def test_a_model_has_its_own_thresholds_again(scenes, iou):
    own = {"score_threshold": 0.2, "iou_threshold": iou, "max_detections": 9}
    model = Planted(**own)
    before = dict(vars(model.postprocess))
    evaluate(model, scenes, thresholds=Thresholds(score=0.1, max_detections=3))
    assert vars(model.postprocess) == before
    seen = []

    def interrupted(done, of):
        seen.append(model.postprocess.max_detections)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, scenes, thresholds=Thresholds(max_detections=3), progress=interrupted)
    assert seen == [3]
    assert vars(model.postprocess) == before


@pytest.mark.parametrize(
    ("name", "nms"), [("faster_rcnn", 0.5), ("ssd", 0.45), ("yolo", 0.6), ("cascade", 0.6)]
)
def test_ours_return_nearly_everything(name, nms):
    model = create(name, 3, **({} if name == "cascade" else SMALL))
    for one in (model, optimize(model)):
        with measured_with(one, Thresholds()) as used:
            assert used == Thresholds(0.001, nms, 100)


def published_state(name):
    """Zeros in the shapes of a published model's weights."""
    with torch.device("meta"):
        theirs = get_model(name, weights=None, weights_backbone=None, num_classes=3)
    return {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", Thresholds(0.05, 0.5, 100)),
        ("ssd300_vgg16", Thresholds(0.01, 0.45, 200)),
        ("ssdlite320_mobilenet_v3_large", Thresholds(0.001, 0.55, 300)),
    ],
)
def test_published_models_keep_theirs_until_they_are_trained(name, own):
    model = load_torchvision(name, published_state(name))
    with measured_with(model, Thresholds()) as used:
        assert used == own
    with measured_with(model, Thresholds(score=0.3)) as used:
        assert used == Thresholds(0.3, own.nms, own.max_detections)
    begin_training(model)
    with measured_with(model, Thresholds()) as used:
        assert used == Thresholds(0.001, own.nms, own.max_detections)


def test_fresh_layers_are_not_published():
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    model = load_torchvision(name, published_state(name), num_classes=5)
    with measured_with(model, Thresholds()) as used:
        assert used == Thresholds(0.001, 0.5, 100)


def test_a_detector_in_another_model_is_found():
    detector = create("ssd", 3, **SMALL)
    classifier = create("classifier", 2, backbone=detector.backbone, image_size=64)
    with measured_with(MultiTask(detector, classifier), Thresholds(score=0.25)):
        assert detector.postprocess.score_threshold == 0.25
    assert detector.postprocess.score_threshold == 0.05


def test_a_cascade_answers_for_its_own_scores(scenes):
    class Sure(nn.Module):
        """Says 0.1 of each crop, whatever it shows."""

        num_classes, image_size = 10, 8

        def forward(self, crops):
            scores = torch.full((self.num_classes,), 0.1)
            return [{"scores": scores, "labels": scores.argmax()[None]} for _ in crops]

    model = Cascade(11, detector=Planted(), classifier=Sure())
    found = evaluate(model, scenes, thresholds=Thresholds(score=0.002))
    # 0.9 and 0.03, each times 0.1; the detector's 0.003 is above the threshold, the product isn't
    assert sorted({round(r["score"], 5) for r in found.results}) == [0.003, 0.09]
    assert found.figures["thresholds"] == {"score": 0.002, "nms": 0.5, "max_detections": 100}


def test_what_a_model_has_not_got_is_refused(scenes):
    data = DigitPatches("val", length=2)
    net = create("classifier", 10, backbone="test_resnet", image_size=32)
    with pytest.raises(ValueError, match="are for detcore's own detectors, got Classifier"):
        evaluate(net, data, thresholds=Thresholds(score=0.1))
    assert "thresholds" not in evaluate(net, data).figures
    with pytest.raises(ValueError, match="are for detcore's own detectors, got Oracle"):
        evaluate(Oracle(scenes, boxes_of), scenes, thresholds=Thresholds(max_detections=1))
    assert "thresholds" not in evaluate(Oracle(scenes, boxes_of), scenes).figures
    without = Planted(iou_threshold=None)
    with pytest.raises(ValueError, match="finds without NMS: it takes no NMS threshold"):
        evaluate(without, scenes, thresholds=Thresholds(nms=0.5))
    assert evaluate(without, scenes).figures["thresholds"]["nms"] is None


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"score": 1.5}, r"score must be in 0..1, got 1.5"),
        ({"nms": float("nan")}, r"nms must be in 0..1, got nan"),
        ({"max_detections": 0}, r"max_detections must be at least 1, got 0"),
    ],
)
def test_values_out_of_bounds_are_named(given, text):
    with pytest.raises(ValueError, match=text):
        Thresholds(**given)
