"""torch.jit.script of every function and module that torchvision has too."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detcore import ops
from detcore.ops.samples import random_rotated_boxes

from .conftest import random_boxes

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")


def boxes(n: int = 6, seed: int = 0) -> Tensor:
    return random_boxes(n, seed=seed).float()


A, B = boxes(6, 1), boxes(6, 2)
MAP = torch.arange(2.0 * 3 * 20 * 20).view(2, 3, 20, 20).sin()
TURNED = torch.tensor([[0, 9.0, 8, 12, 5, 30], [1, 4, 12, 7, 3, -100], [0, 15, 9, 9, 9, 45]])
ROIS = torch.cat((torch.arange(6)[:, None] % 2, A / 6), 1)
R = random_rotated_boxes(6).float()
CORNERS = ops.box_convert(torch.rand(5, 5) * 9 + 1, "cxcywhr", "xyxyxyxy")
CALLS: dict[str, list[tuple[Any, ...]]] = {
    "nms": [(A, A[:, 0], 0.3)],
    "batched_nms": [
        (A, A[:, 0], torch.arange(6) % 2, 0.3),
        (A, A[:, 0], A[:, 1].round(), 0.3),
        (A[:1].expand(4, 4), A[:4, 0], torch.tensor([torch.nan, 1, torch.nan, 1]), 0.3),
    ],
    "soft_nms": [(A, A[:, 0], 0.3)],
    "multiclass_nms": [(A[None], A[None].sigmoid(), 0.1, 0.5, 3, 4)],
    "box_area": [(A,), (A.half(), "xywh"), (A.short(),)],
    "box_convert": [(A, i, o) for i in ("xyxy", "xywh", "cxcywh") for o in ("xyxy", "cxcywh")]
    + [(CORNERS, "xyxyxyxy", o) for o in ("xywhr", "cxcywhr", "xyxyxyxy")],
    "box_iou": [(A, B), (A, B, "cxcywh"), (A.int(), B), (A.long(), B.long()), (A, B.double())],
    "generalized_box_iou": [(A, B), (A.int(), B.int())],
    "distance_box_iou": [(A, B, 1e-3)],
    "complete_box_iou": [(A, B)],
    "paired_box_iou": [(A, B, "giou"), (A.int(), B.int()), (A, B, "iou", 1e-7, "cxcywh")]
    + [(R, R.flip(0), "giou", 1e-7, "cxcywhr"), (R.int(), R, "iou", 1e-7, "xywhr")],
    "probiou_loss": [(R, R.flip(0)), (R.int(), R, "mean", 1e-7, "l2")],
    "kfiou_loss": [(R, R.flip(0)), (R, R.flip(0), "sum", 1e-6, "exp")],
    "generalized_box_iou_loss": [(A, B), (A, B, "mean"), (A[:0], B[:0], "mean")],
    "distance_box_iou_loss": [(A, B, "sum")],
    "complete_box_iou_loss": [(A, B)],
    "sigmoid_focal_loss": [(A, (B > 50).float()), (A, (B > 50).float(), -1.0, 1.5, "mean")],
    "clip_boxes_to_image": [(A, (40, 50))],
    "remove_small_boxes": [(A, 9.0)],
    "masks_to_boxes": [(MAP[0] > 0.9,), (MAP[0, :, :0],), (MAP[0],)],
    "roi_align": [
        (MAP, ROIS, (3, 2), 0.5, 2, True),
        (MAP, [A[:2] / 6, A[2:] / 6], 3),
        (MAP, ROIS, [3, 2]),
    ],
    "roi_align_rotated": [
        (MAP, TURNED, (3, 2), 0.5, 2, False, True),
        (MAP, [TURNED[:2, 1:], TURNED[2:, 1:]], 3),
        (MAP, TURNED, [3, 2]),
    ],
    "roi_pool": [
        (MAP, ROIS, (3, 2), 0.5),
        (MAP, [A[:2] / 6, A[2:] / 6], 3),
        (MAP, ROIS, [3, 2]),
    ],
}


def saved(scripted: Any) -> Any:
    """Through a file, as a service loads it."""
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    return torch.jit.load(file)


@pytest.mark.parametrize("name", CALLS)
def test_function(name: str) -> None:
    function: Callable[..., Any] = getattr(ops, name)
    scripted = torch.jit.script(function)
    for args in CALLS[name]:
        torch.testing.assert_close(scripted(*args), function(*args), rtol=0, atol=0)


def test_out() -> None:
    out = torch.zeros(6, 6)
    assert torch.jit.script(ops.generalized_box_iou)(A, B, out=out) is not None
    assert torch.equal(out, ops.generalized_box_iou(A, B))


def test_gradient() -> None:
    a = A.clone().requires_grad_()
    torch.jit.script(ops.complete_box_iou_loss)(a, B, "sum").backward()
    (want,) = torch.autograd.grad(
        ops.complete_box_iou_loss(b := A.clone().requires_grad_(), B).sum(), b
    )
    assert a.grad is not None and torch.equal(a.grad, want)


def test_errors() -> None:
    for call, words in (
        (lambda: torch.jit.script(ops.box_area)(A, "xyyx"), "fmt must be one of xyxy, xywh"),
        (lambda: torch.jit.script(ops.box_iou)(A[:, :3], B), "boxes1 must be"),
        (lambda: torch.jit.script(ops.roi_align)(MAP, [A], 3), "one tensor per image, 2 of them"),
        (lambda: torch.jit.script(ops.box_iou)(A > 9, B > 9), "boxes1 must be real numbers"),
        (
            lambda: torch.jit.script(ops.multiclass_nms)(A[None], A[None], 0.1, 0.5, 3, 2**31),
            "max_per_image must be at most",
        ),
        (lambda: torch.jit.script(ops.roi_align)(MAP, ROIS, [3]), "must be one number or two"),
    ):
        with pytest.raises(Exception, match=words):  # TorchScript has classes of its own
            call()


class Pooler(nn.Module):
    """As in a detector: all modules and a function inside another module."""

    def __init__(self) -> None:
        super().__init__()
        self.one = ops.RoIAlign(3, 0.5, 2)
        self.greatest = ops.RoIPool(3, 0.5)
        self.many = ops.MultiScaleRoIAlign(["fine", "coarse"], 3, 2)

    def forward(
        self, maps: dict[str, Tensor], regions: list[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        kept = [r[ops.nms(r, r[:, 0], 0.5)] for r in regions]
        fine = maps["fine"]
        return self.one(fine, kept), self.greatest(fine, kept), self.many(maps, kept, sizes)


@pytest.mark.parametrize("side", [10, 20])
def test_modules(side: int) -> None:
    """side: of the second map; 20 is that of the first, for torchvision's rule of equal maps."""
    x = {"coarse": MAP[:, :, :side, :side] * 2, "fine": MAP}
    regions = [boxes(5, 3) / 4, boxes(4, 5) / 3]
    sizes = [(40, 40), (38, 33)]
    want = Pooler()(x, regions, sizes)
    module = saved(torch.jit.script(Pooler()))
    torch.testing.assert_close(module(x, regions, sizes), want, rtol=0, atol=0)
    empty = [torch.zeros(0, 4)] * 2
    assert [list(t.shape) for t in module(x, empty, sizes)] == [[0, 3, 3, 3]] * 3
