"""Turned digits are learned well enough that the figures measure their angles. Minutes long."""

import pytest

from detcore.data import load
from detcore.evaluation.evaluator import evaluate, evaluate_results
from detcore.models import create
from detcore.training.config import TrainConfig
from detcore.training.trainer import train


@pytest.mark.slow
def test_the_angle_is_learned_and_measured() -> None:
    config = TrainConfig(steps=700, batch_size=16, device="cpu")
    model = create("yolo", 11, image_size=128, oriented=True)
    train(model, load("digits", "train", oriented=True), config)
    measured = evaluate(model, load("digits", "val", oriented=True, length=200))
    assert measured.figures["AP75"] >= 0.5
    assert measured.figures["angle_error"] <= 3
    flat = [{**r, "bbox": [*r["bbox"][:4], 0.0]} for r in measured.results]
    without = evaluate_results(measured.truth, flat).figures
    assert without["AP75"] <= measured.figures["AP75"] / 2
    assert without["AP50"] < measured.figures["AP50"]
