from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detcore.models import create
from detcore.ops import box_iou, decode_dense
from detcore.parts import postprocess

Scenes = tuple[list[Tensor], list[dict[str, Tensor]]]

# (width, height) in pixels, similar to the shapes in the pictures
ANCHORS = [[[20, 20], [32, 32]], [[32, 56], [40, 40]], [[56, 56], [90, 60]]]
VARIANTS: dict[str, dict[str, Any]] = {
    "anchor-free": {},
    "anchors": {"anchors": ANCHORS},
    "one-to-one": {"one_to_one": True},
    "anchors, one-to-one": {"anchors": ANCHORS, "one_to_one": True},
}


def parameters(model: nn.Module, *parts: str) -> Iterable[Tensor]:
    return (p for part in parts for p in model.get_submodule(part).parameters())


@pytest.mark.parametrize("options", VARIANTS.values(), ids=list(VARIANTS))
def test_learns_pictures_by_heart(
    options: dict[str, Any],
    scenes: Scenes,
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Expects one detection per object; the one-to-one head does that without NMS."""
    model = create("yolo", 4, image_size=128, **options)
    assert fit(model, *scenes, steps=100, lr=4e-3) < 0.05
    if model.config["one_to_one"]:
        forbid_nms(monkeypatch)
    assert_all_found(model, *scenes)


def forbid_nms(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("suppression was called")

    monkeypatch.setattr(postprocess, "multiclass_nms", forbidden)


def test_only_a_one_to_many_head_is_followed_by_nms(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_nms(monkeypatch)
    image = [torch.rand(3, 64, 64)]
    assert len(create("yolo", 3, image_size=64, one_to_one=True).eval()(image)) == 1
    with pytest.raises(AssertionError, match="suppression was called"):
        create("yolo", 3, image_size=64).eval()(image)


def test_only_the_one_to_one_head_runs_in_evaluation() -> None:
    model = create("yolo", 3, image_size=64, one_to_one=True).eval()
    image = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        before = model(image)
        for p in parameters(model, "head"):
            p.fill_(float("nan"))
        (one,), (other,) = before, model(image)
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_the_one_to_one_head_leaves_the_maps_to_the_other() -> None:
    model = create("yolo", 3, image_size=64, one_to_one=True).train()
    wanted = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, 64, 64)], [wanted])
    own = [k for k in losses if k.startswith("loss_one_to_one_")]
    assert len(own) == 3
    torch.stack([losses[k] for k in own]).sum().backward()
    assert all(p.grad is None for p in parameters(model, "backbone", "neck", "head"))
    assert all(p.grad is not None for p in parameters(model, "one_to_one_head"))


def test_an_untrained_head_finds_the_anchors_where_its_assigner_looks_for_them() -> None:
    """With biases of 0 each anchor is in the middle of its cell, where matches must overlap it."""
    model = create("yolo", 3, image_size=128, anchors=ANCHORS)
    for p in parameters(model, "head.box"):
        nn.init.zeros_(p)
    maps = [torch.zeros(1, 14, 128 // s, 128 // s) for s in model.strides]
    boxes, scores = model._decode(maps)
    assert torch.equal(scores, torch.full_like(scores, 0.25))
    gt = torch.tensor([[4.0, 20, 36, 52], [50, 40, 110, 96]])  # the anchors 32x32, about 56x56
    gt[1, 2] = 106
    sizes = [(m.shape[2], m.shape[3]) for m in maps]
    match, quality = model.anchor_assigner(boxes[0], gt, sizes)
    for m in range(2):
        best = quality[match == m].max()
        assert best == box_iou(gt[m : m + 1], boxes[0]).max()
        assert best > 0.5


def test_scale_xy_stretches_the_centres() -> None:
    maps = [torch.full((1, 14, 64 // s, 64 // s), 2.0) for s in (8, 16, 32)]
    for scale_xy in (1.0, 1.2):
        model = create("yolo", 3, image_size=64, anchors=ANCHORS, scale_xy=scale_xy)
        want, _ = decode_dense(
            maps[0], torch.tensor(ANCHORS[0], dtype=torch.float32), 8, "yolo", scale_xy=scale_xy
        )
        assert torch.equal(model._decode(maps)[0][:, : want.shape[1]], want)


def test_anchors_that_do_not_fit_are_refused() -> None:
    for anchors, text in (
        (ANCHORS[:2], "anchors must be 3 lists, one per level, .*, got 2 lists"),
        ([*ANCHORS[:2], [[9, 9]]], r"anchors must be as many on every level, .*, got \[2, 2, 1\]"),
        ([*ANCHORS[:2], [[9, 9], [-1, 9]]], r"got \[\[9, 9\], \[-1, 9\]\] at level 2"),
    ):
        with pytest.raises(ValueError, match=text):
            create("yolo", 3, anchors=anchors)
