"""Properties of all detectors: the interface, the errors, the config."""

import inspect
import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detcore.models import MODELS, create
from detcore.ops import box_convert
from detcore.parts.backbones.timm import Backbone

ANCHORS = [[[8, 12], [20, 10]], [[24, 24], [16, 40]], [[50, 30], [60, 70]]]
YOLOS = [
    *("yolo", "yolo_anchors", "yolo_one_to_one", "yolo_anchors_one_to_one"),
    *("yolo_oriented", "yolo_oriented_one_to_one"),
]
UPRIGHT = ["ssd", *(name for name in YOLOS if "oriented" not in name)]
DENSE = ["ssd", *YOLOS]  # one-stage models
TWO_STAGE = ["faster_rcnn", "faster_rcnn_oriented"]
DETECTORS = [*TWO_STAGE, *DENSE, "cascade"]
# every model, and variants with their own names
SMALL: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"image_size": 96, "fpn_channels": 16, "head_width": 16},
    "ssd": {"image_size": 96, "extra_levels": (16, 16), "head_width": 16},
    "yolo": {"image_size": 96, "neck_channels": 16, "head_width": 16},
    "classifier": {"image_size": 48},
    "cascade": {
        "detector": {"model": "yolo", "image_size": 96, "neck_channels": 16, "head_width": 16},
        "classifier": {"model": "classifier", "image_size": 32},
    },
}
for variant, choice in (
    ("yolo_anchors", {"anchors": ANCHORS}),
    ("yolo_one_to_one", {"one_to_one": True}),
    ("yolo_anchors_one_to_one", {"anchors": ANCHORS, "one_to_one": True}),
    ("yolo_oriented", {"oriented": True}),
    ("yolo_oriented_one_to_one", {"oriented": True, "one_to_one": True}),
    ("faster_rcnn_oriented", {"oriented": True}),
):
    kind = "faster_rcnn" if variant in TWO_STAGE else "yolo"
    SMALL[variant] = {"model": kind, **SMALL[kind], **choice}
BACKBONE = "mobilenetv3_small_050"


def small(name: str, num_classes: int = 4, **options: Any) -> nn.Module:
    settings = {"model": name, **SMALL[name], **options}
    if name != "cascade":
        settings.setdefault("backbone", BACKBONE)
    return create(num_classes=num_classes, **settings)


def target(boxes: list[list[float]], labels: list[int]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def fitting(name: str, targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The targets as the model takes them: an oriented one's boxes turned."""
    if "oriented" not in name:
        return targets
    made = []
    for one in targets:
        boxes = box_convert(one["boxes"], "xyxy", "cxcywhr")
        boxes[:, 4] = 25.0 * (torch.arange(len(boxes)) + 1)
        made.append({**one, "boxes": boxes})
    return made


_generator = torch.Generator().manual_seed(0)
IMAGES = [torch.rand(3, *size, generator=_generator) for size in ((80, 100), (70, 50))]
TARGETS = [target([[10, 10, 50, 60], [60, 20, 90, 50]], [1, 3]), target([], [])]


@pytest.mark.parametrize("name", DETECTORS)
def test_losses_in_training_detections_in_evaluation(name: str) -> None:
    model = small(name).train()
    losses = model(IMAGES, fitting(name, TARGETS))
    assert all(k.startswith("loss_") and v.dim() == 0 for k, v in losses.items())
    sum(losses.values()).backward()
    grads = {k: p.grad for k, p in model.named_parameters()}
    assert [k for k, g in grads.items() if g is None] == []
    assert all(g.isfinite().all() for g in grads.values() if g is not None)

    model.eval()
    with torch.no_grad():
        found = model(IMAGES)
    assert len(found) == 2
    for image, one in zip(IMAGES, found, strict=True):
        boxes, scores, labels = one["boxes"], one["scores"], one["labels"]
        assert boxes.shape == (len(scores), 5 if "oriented" in name else 4)
        assert labels.shape == scores.shape
        assert boxes.dtype == scores.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert (scores.diff() <= 0).all()
        assert ((labels >= 1) & (labels <= 3)).all()
        if "oriented" in name:
            continue  # they may stick out
        limit = torch.tensor([image.shape[2], image.shape[1]] * 2) + 1e-3
        assert (boxes >= 0).all()
        assert (boxes <= limit).all()
    with torch.no_grad():
        assert model([]) == []


@pytest.mark.parametrize("name", [*TWO_STAGE, *DENSE])
def test_every_class_can_come_out(name: str) -> None:
    """Without a threshold, a detector returns all labels 1..num_classes - 1 and never 0."""
    model = small(name, score_threshold=0.0, max_detections=500).eval()
    with torch.no_grad():
        found = model(IMAGES)
    assert {int(v) for one in found for v in one["labels"]} == {1, 2, 3}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_batch_without_any_object_trains(name: str) -> None:
    model = small(name).train()
    losses = model(IMAGES, fitting(name, [target([], []), target([], [])]))
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_at_the_rim_and_tiny_and_huge_train(name: str) -> None:
    model = small(name).train()
    edge = target([[0, 0, 100, 80], [99, 79, 100, 80], [0, 0, 0.5, 0.5], [-4, -4, 9, 9]], [1] * 4)
    losses = model(IMAGES, fitting(name, [edge, TARGETS[1]]))
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"boxes": torch.zeros(2, 6)}, r"boxes must be \[n, [45]\], got \[2, 6\]"),
        ({"labels": torch.tensor([1, 4])}, r"labels must be in 1..3 .*, got 4"),
        ({"boxes": torch.full((2, 4), float("nan"))}, "boxes must be finite, got"),
    ],
)
def test_bad_targets_are_refused(name: str, bad: dict[str, Tensor], text: str) -> None:
    model = small(name).train()
    first, second = fitting(name, TARGETS)
    if "boxes" in bad and bad["boxes"].isnan().any():
        bad = {"boxes": torch.full_like(first["boxes"], math.nan)}
    with pytest.raises(ValueError, match=text):
        model(IMAGES, [{**first, **bad}, second])


def test_each_model_refuses_the_others_boxes() -> None:
    with pytest.raises(ValueError, match=r"targets\[0\]: boxes must be \[n, 5\], got \[2, 4\]"):
        small("yolo_oriented").train()(IMAGES, TARGETS)
    turned = fitting("yolo_oriented", TARGETS)
    with pytest.raises(ValueError, match=r"targets\[0\]: boxes must be \[n, 4\], got \[2, 5\]"):
        small("yolo").train()(IMAGES, turned)
    turned[0]["boxes"][1, 3] = 0
    with pytest.raises(ValueError, match=r"must have a width and height above 0 \(cxcywhr\), got"):
        small("yolo_oriented").train()(IMAGES, turned)


def test_oriented_boxes_with_anchors_are_refused() -> None:
    with pytest.raises(ValueError, match="oriented boxes are found without anchors, got both"):
        small("yolo_anchors", oriented=True)


@pytest.mark.parametrize("name", list(SMALL))
def test_bad_calls_are_refused(name: str) -> None:
    model = small(name).train()
    with pytest.raises(ValueError, match="targets must be given in training"):
        model(IMAGES)
    with pytest.raises(ValueError, match="at least one image"):
        model([], [])
    with pytest.raises(ValueError, match=r"images\[0\] must be \[3, H, W\], got \[1, 9, 9\]"):
        model.eval()([torch.rand(1, 9, 9)])


@pytest.mark.parametrize("name", list(SMALL))
def test_config_goes_through_json_and_rebuilds_the_model(name: str) -> None:
    model = small(name).eval()
    again = create(**json.loads(json.dumps(model.config)))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    again.eval()
    with torch.no_grad():
        for one, other in zip(model(IMAGES), again(IMAGES), strict=True):
            assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", list(SMALL))
def test_config_holds_every_option(name: str) -> None:
    model = small(name)
    options = set(inspect.signature(MODELS[model.config["model"]]).parameters) - {"pretrained"}
    assert set(model.config) == options | {"model"}


@pytest.mark.parametrize("name", [*TWO_STAGE, *DENSE, "classifier"])
def test_no_option_is_ignored_by_the_config(name: str) -> None:
    """Change every number and read it back; otherwise a config of constants would pass."""
    config = small(name).config
    changed = {
        k: not v if isinstance(v, bool) else v / 2 if isinstance(v, float) else v
        for k, v in config.items()
    }
    changed |= {k: v * 2 for k, v in config.items() if type(v) is int}
    if config.get("anchors"):
        changed["anchors"] = [[[w + 1, h + 2] for w, h in level] for level in config["anchors"]]
    if name == "classifier":
        changed["multilabel"] = False  # which allows only one top_k
    if config.get("anchors"):
        changed["oriented"] = False  # they don't go together
    changed["num_classes"] = 7
    assert create(**changed).config == changed


def test_one_backbone_serves_all() -> None:
    backbone = Backbone.at_strides(BACKBONE, (8, 16, 32))
    models = [small(n, backbone=backbone) for n in ("faster_rcnn", "ssd", "yolo", "classifier")]
    before = [p.detach().clone() for p in backbone.parameters()]
    for model in models:
        assert model.backbone is backbone
        given = [{"label": torch.tensor(i)} for i in range(2)]
        losses = model.train()(IMAGES, given if model is models[-1] else TARGETS)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = list(backbone.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    again = create(**json.loads(json.dumps(models[1].config)))
    again.load_state_dict(models[1].state_dict())


@pytest.mark.parametrize("name", [*TWO_STAGE, *DENSE])
def test_a_backbone_of_other_strides_is_taken(name: str) -> None:
    images = [torch.rand(3, 64, 64)]
    options = {"anchors": ANCHORS[:2]} if "anchors" in SMALL[name] else {}
    model = small(name, backbone=Backbone.at_strides(BACKBONE, (4, 16)), **options).train()
    losses = model(images, fitting(name, [target([[8, 8, 40, 40]], [1])]))
    assert all(v.isfinite() for v in losses.values())
    with torch.no_grad():
        assert len(model.eval()(images)) == 1


@pytest.mark.parametrize("name", [*TWO_STAGE, *DENSE])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_backbones_of_other_families_are_taken(name: str, backbone: str) -> None:
    model = small(name, backbone=backbone).train()
    losses = model(IMAGES, fitting(name, TARGETS))
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    with torch.no_grad():
        assert len(model.eval()(IMAGES)) == 2


@pytest.mark.parametrize("name", DETECTORS)
def test_one_class_trains_and_detects(name: str) -> None:
    options = {} if name == "cascade" else {"score_threshold": 0.0, "max_detections": 30}
    model = small(name, 2, **options).train()
    targets = [target([[10, 10, 50, 60], [60, 20, 90, 50]], [1, 1]), target([], [])]
    losses = model(IMAGES, fitting(name, targets))
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    with torch.no_grad():
        found = model.eval()(IMAGES)
    assert all((one["labels"] == 1).all() for one in found)
    assert name == "cascade" or all(len(one["labels"]) > 0 for one in found)


@pytest.mark.parametrize("name", [*TWO_STAGE, *DENSE])
def test_channels_last_weights_find_the_same(name: str) -> None:
    model = small(name, score_threshold=0.0, max_detections=50).eval()
    with torch.no_grad():
        plain = model(IMAGES)
        last = model.to(memory_format=torch.channels_last)(IMAGES)
    for one, other in zip(plain, last, strict=True):
        assert len(one["scores"]) > 0
        torch.testing.assert_close(one["scores"], other["scores"], atol=1e-4, rtol=1e-3)
    losses = model.train()(IMAGES, fitting(name, TARGETS))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_unknown_models_options_and_class_counts() -> None:
    with pytest.raises(ValueError, match=r"model must be one of .*, got 'rcnn'"):
        create("rcnn", 3)
    with pytest.raises(ValueError, match=r"options of ssd are .*, got \['image_sise'\]"):
        create("ssd", 3, image_sise=320)
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        create("yolo", 1)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        create("classifier", 0)


@pytest.mark.parametrize("name", DETECTORS)
def test_evaluation_repeats_itself(name: str) -> None:
    model = small(name).eval()
    with torch.no_grad():
        for one, other in zip(model(IMAGES), model(IMAGES), strict=True):
            assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", DENSE)
def test_boxes_come_back_in_the_given_images_pixels(name: str) -> None:
    """The same picture at twice the size gives boxes of twice the size."""
    image = torch.rand(3, 48, 48)
    model = small(name, score_threshold=0.0, max_detections=20).eval()
    with torch.no_grad():
        big = nn.functional.interpolate(image[None], scale_factor=2.0)[0]
        (once,), (twice,) = model([image]), model([big])
    # of oriented boxes the centres: they may stick out
    once, twice = (one["boxes"][:, : 4 if name in UPRIGHT else 2] for one in (once, twice))
    assert once.max() <= 48
    assert 48 < twice.max() <= 96


@pytest.mark.parametrize("name", DETECTORS)
def test_half_precision_autocast_trains_and_detects_in_float(name: str) -> None:
    model = small(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(IMAGES, fitting(name, TARGETS))
        sum(losses.values()).backward()
        assert all(v.isfinite() for v in losses.values())
        with torch.no_grad():
            found = model.eval()(IMAGES)
    assert all(one["boxes"].dtype == torch.float32 for one in found)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", ["faster_rcnn", "ssd", "yolo", "classifier"])
def test_images_of_other_channels(name: str, channels: int) -> None:
    model = small(name, backbone={"name": BACKBONE, "in_chans": channels}).eval()
    images = [torch.rand(channels, 50, 60)]
    with torch.no_grad():
        assert len(model(images)) == 1
    with pytest.raises(ValueError, match=rf"must be \[{channels}, H, W\], got \[3, 80, 100\]"):
        model(IMAGES)
    again = create(**json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match=f"mean must have {channels} values, one per channel"):
        small(name, backbone={"name": BACKBONE, "in_chans": channels}, mean=[0.5] * 3)
