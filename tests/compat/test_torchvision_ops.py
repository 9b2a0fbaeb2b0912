"""Every name of torchvision.ops, and torchvision with our functions in it."""

import inspect
import logging
import sys
from types import FunctionType, ModuleType

import pytest
import torch
import torchvision
import torchvision.ops.boxes
import torchvision.ops.poolers
from torchvision.ops import nms as imported_by_name  # stands in this module's globals

import detcore
from detcore import ops
from detcore.compat import torchvision_ops
from tests.ops.conftest import random_boxes

SHARED = [name for name in torchvision.ops.__all__ if name in ops.__all__]
FUNCTIONS = [n for n in SHARED if isinstance(getattr(torchvision.ops, n), FunctionType)]


@pytest.fixture
def patched():
    with detcore.patch_torchvision() as patch:
        yield patch


@pytest.mark.parametrize("name", torchvision.ops.__all__)
def test_every_name_is_there(name):
    got = getattr(torchvision_ops, name)
    assert got is (getattr(ops, name) if name in SHARED else getattr(torchvision.ops, name))
    assert name in torchvision_ops.__all__


def test_submodules_hold_the_same_names():
    found = [n for n in torchvision_ops.SUBMODULES if n in ("boxes", "poolers", "misc")]
    assert sorted(found) == ["boxes", "misc", "poolers"]
    assert torchvision_ops.boxes.batched_nms is ops.batched_nms
    assert torchvision_ops.poolers.MultiScaleRoIAlign is ops.MultiScaleRoIAlign
    assert torchvision_ops.misc.FrozenBatchNorm2d is torchvision.ops.FrozenBatchNorm2d
    assert torchvision_ops.boxes.masks_to_boxes is ops.masks_to_boxes
    with pytest.raises(AttributeError, match="nor has torchvision"):
        _ = torchvision_ops.nothing_of_the_kind


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_take_what_torchvisions_take(name):
    ours = list(inspect.signature(getattr(ops, name)).parameters.values())
    theirs = list(inspect.signature(getattr(torchvision.ops, name)).parameters.values())
    assert [p.name for p in ours[: len(theirs)]] == [p.name for p in theirs]
    for mine, other in zip(ours, theirs, strict=False):
        assert mine.default == other.default, mine.name
    assert all(p.kind is p.KEYWORD_ONLY or p.default is not p.empty for p in ours[len(theirs) :])


def test_patching_reaches_names_that_were_imported(patched):
    here = sys.modules[__name__]
    assert here.imported_by_name is ops.nms
    assert torchvision.ops.nms is ops.nms and torchvision.ops.boxes.nms is ops.nms
    assert torchvision.models.detection.roi_heads.box_ops.batched_nms is ops.batched_nms
    assert torchvision.ops.MultiScaleRoIAlign is not ops.MultiScaleRoIAlign  # a class
    assert f"{__name__}.imported_by_name" in str(patched)
    assert {change.theirs.__name__ for change in patched.changes} == set(FUNCTIONS)


def test_it_is_taken_back_and_told_of(caplog):
    before = {n: getattr(torchvision.ops, n) for n in torchvision.ops.__all__}
    with caplog.at_level(logging.INFO, logger="detcore"):
        patch = detcore.patch_torchvision()
    assert "torchvision.ops.boxes.nms" in caplog.text
    again = detcore.patch_torchvision()
    assert again.changes == [] and str(again) == "nothing"
    again.undo()
    assert torchvision.ops.nms is ops.nms
    torchvision.ops.nms = somebodys = lambda *_: None
    patch.undo()
    assert torchvision.ops.nms is somebodys  # not ours to take back
    torchvision.ops.nms = before["nms"]
    assert {n: getattr(torchvision.ops, n) for n in before} == before
    assert imported_by_name is before["nms"]


def test_a_module_of_odd_attributes_is_no_obstacle(monkeypatch):
    class Odd(ModuleType):
        def __getattr__(self, name):
            raise RuntimeError(name)

    monkeypatch.setitem(sys.modules, "odd", Odd("odd"))
    monkeypatch.setitem(sys.modules, "none", None)
    with detcore.patch_torchvision():
        pass


def model():
    torch.manual_seed(0)
    return torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=96
    ).double()  # so that no score comes so near to a threshold that rounding decides


def test_a_model_of_torchvision_finds_and_learns_the_same(patched):
    image = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0)).double()]
    target = [{"boxes": torch.tensor([[5.0, 5, 50, 40]]).double(), "labels": torch.tensor([1])}]

    def outcome():
        net = model()
        torch.manual_seed(1)
        losses = net.train()(image, target)
        sum(losses.values()).backward()
        gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        with torch.no_grad():
            return losses, gradients, net.eval()(image)[0]

    losses, gradients, found = outcome()
    assert len(gradients) > 50 and len(found["boxes"]) > 0
    patched.undo()
    their_losses, their_gradients, their_found = outcome()
    torch.testing.assert_close(losses, their_losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients, their_gradients, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found, their_found, rtol=1e-4, atol=1e-4)


class Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.greatest = ops.RoIAlign(3, 0.5, 2), ops.RoIPool(3, 0.5)

    def forward(self, x, boxes, scores):
        keep = ops.nms(boxes, scores, 0.5)
        kept = [boxes[keep]]
        return self.pool(x, kept), self.greatest(x, kept), ops.box_iou(boxes, boxes2=boxes)


def test_fx_traces_each_call_as_one():
    graph = torch.fx.symbolic_trace(Head())
    called = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert {ops.nms, ops.roi_align, ops.roi_pool, ops.box_iou} <= set(called)
    x, boxes, scores = torch.rand(1, 2, 60, 60), random_boxes(20).float(), torch.rand(20)
    for got, want in zip(graph(x, boxes, scores), Head()(x, boxes, scores), strict=True):
        assert torch.equal(got, want)


def test_fx_traces_the_multiscale_module_as_one():
    pool = ops.MultiScaleRoIAlign(["0", "1"], 3, 2)
    graph = torch.fx.symbolic_trace(pool)
    assert [n.op for n in graph.graph.nodes].count("call_function") == 1
    x = {"0": torch.rand(1, 2, 32, 32), "1": torch.rand(1, 2, 16, 16)}
    boxes = [random_boxes(20).float()]
    assert torch.equal(graph(x, boxes, [(128, 128)]), pool(x, boxes, [(128, 128)]))


def test_what_torchvisions_own_tests_ask():
    """Two things that they check and a reference would not."""
    nothing = torch.empty(0, 4)
    want = torchvision.ops.batched_nms(nothing, None, None, None)
    assert torch.equal(ops.batched_nms(nothing, None, None, None), want)
    with pytest.raises(TypeError, match="idxs must be a tensor, got NoneType"):
        ops.batched_nms(torch.zeros(1, 4), torch.zeros(1), None, 0.5)
    for module in (torchvision.ops, ops):
        with pytest.raises(ValueError, match="Invalid"):
            module.sigmoid_focal_loss(torch.zeros(1), torch.zeros(1), reduction="both")
