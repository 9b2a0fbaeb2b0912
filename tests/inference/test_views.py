"""Test-time augmentation: views, the way back, and what is fused."""

import json

import pytest
import torch
from PIL import Image

from detcore.checkpoints import load_model
from detcore.inference.predictor import predict
from detcore.inference.views import VIEWS, View, predict_views
from tests.commands.test_cli import call
from tests.helpers.films import INFO, Finder, scene
from tests.inference.test_tiles import Squares, detections, picture, rows_of


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_a_view_and_the_way_back(view: View, kind: torch.dtype) -> None:
    image = picture(41, 60, (5, 7, 15, 30), (50, 20, 60, 41))
    image = (image * 255).to(kind) if kind == torch.uint8 else image
    shown = view.of(image)
    assert shown.dtype == kind
    height, width = shown.shape[1:]
    assert (height, width) == ((41, 60) if view.scale == 1 else (52, 75))
    # the image as it is, and grey around it
    inside = shown[:, :41, :60]
    assert torch.equal(inside.flip(-1) if view.mirrored else inside, image)
    grey = 114 if kind == torch.uint8 else 114 / 255
    border = torch.cat((shown[:, 41:].flatten(), shown[:, :, 60:].flatten()))
    assert (border == torch.tensor(grey, dtype=kind)).all()

    found = Squares()([shown.float() / (255 if kind == torch.uint8 else 1)])[0]
    back = view.back(found, (41, 60))
    objects = {(5, 7, 15, 30), (50, 20, 60, 41)}
    assert objects <= {tuple(box) for box in back["boxes"].tolist()}
    # what is found in the border ends at the image
    assert (back["boxes"][:, 2] <= 60).all() and (back["boxes"][:, 3] <= 41).all()


def test_boxes_in_the_border_are_left_out() -> None:
    found = detections(((61.0, 0, 70, 9), 0.9, 1), ((58.0, 40, 66, 50), 0.8, 2))
    for view, box in ((View(scale=0.8), (58, 40, 60, 41)), (VIEWS[3], (0, 40, 2, 41))):
        assert rows_of(view.back(found, (41, 60))) == [(box, 0.8, 2)]


class Unsure(torch.nn.Module):
    """Finds a box at the left of what it is shown, only in pictures of 60 pixels' width."""

    def forward(self, images):
        return [
            detections(((2.0, 2, 12, 12), 0.8, 1)) if image.shape[-1] == 60 else detections()
            for image in images
        ]


def test_what_views_agree_on_is_one_object() -> None:
    image = picture(41, 60, (5, 7, 15, 30))
    two = predict_views(Squares(least=0.3), [image, picture(20, 60)], batch_size=1)
    assert rows_of(two[0])[0] == ((5, 7, 15, 30), 0.9, 1)
    # found in one view of four
    found = predict_views(Unsure(), [image])[0]
    assert rows_of(found) == [((2, 2, 12, 12), 0.2, 1), ((48, 2, 58, 12), 0.2, 1)]
    assert len(predict_views(Unsure(), [image], score=0.3)[0]["boxes"]) == 0
    # one view is the model's own answer
    (own,), (plain,) = predict_views(Unsure(), [image], views=[View()]), predict(Unsure(), [image])
    assert rows_of(own) == rows_of(plain)
    assert predict_views(Unsure(), []) == []


def test_what_cannot_be_fused_is_refused() -> None:
    class More(torch.nn.Module):
        def __init__(self, found):
            super().__init__()
            self.found = found

        def forward(self, images):
            return [self.found for _ in images]

    more = More({**detections(((0.0, 0, 9, 9), 0.5, 1)), "colours": torch.ones(1)})
    with pytest.raises(ValueError, match=r"boxes, scores and labels alone.*got also colours"):
        predict_views(more, [picture(20, 20)])
    classifier = More({"scores": torch.ones(3), "labels": torch.arange(3)})
    with pytest.raises(ValueError, match="model must be a detector"):
        predict_views(classifier, [picture(20, 20)])


def test_the_command(monkeypatch, tmp_path) -> None:
    net = Finder()
    monkeypatch.setattr(load_model, "open_model", lambda *a, **k: (net.eval(), INFO))
    Image.fromarray(scene(red=(9, 4), blue=(40, 20))).save(tmp_path / "a.png")
    plain, fused = tmp_path / "plain.json", tmp_path / "fused.json"
    arguments = ["predict", tmp_path / "a.png", "--checkpoint", "x", "--score", 0.1]
    call(*arguments, "--json", plain)
    assert "a.png: 1 blue, 1 red" in call(*arguments, "--tta", "--json", fused)
    for one, other in zip(*(json.loads(p.read_text())[0]["detections"] for p in (plain, fused)),
                          strict=True):  # fmt: skip
        assert one["class"] == other["class"]
        assert one["box"] == pytest.approx(other["box"], abs=1)
    assert "not both" in call(*arguments, "--tta", "--tiles", code=2)
