import math

import pytest
import torch
from torch.library import opcheck

from detcore import ops, reference

from .conftest import FLOATS, Backend
from .peers import detection

CODECS = ("delta", "yolo", "yolo5", "grid", "ltrb", "dfl")
BINS = 5


def case(codec: str, batch: int, cells: int, classes: int, height: int, width: int, seed: int = 0):
    """Maps (float64) and anchors of a random head."""
    g = torch.Generator().manual_seed(seed + 7 * height + width)
    if codec in ("grid", "ltrb", "dfl"):
        cells, anchors = 1, None
    elif codec == "delta":
        half = torch.rand(cells, 2, generator=g, dtype=torch.float64) * 20 + 4
        anchors = torch.cat((-half, half), dim=1)
    else:
        anchors = torch.rand(cells, 2, generator=g, dtype=torch.float64) * 40 + 4
    extra = classes + (codec in ("yolo", "yolo5", "grid"))
    numbers = 4 * BINS if codec == "dfl" else 4
    shape = (batch, cells * (numbers + extra), height, width)
    return torch.randn(shape, generator=g, dtype=torch.float64), anchors


@pytest.mark.parametrize("threshold", [None, 0.3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(
    ("batch", "cells", "height", "width"),
    [(1, 1, 1, 1), (2, 3, 5, 7), (1, 2, 13, 64), (0, 3, 4, 4)],
)
@pytest.mark.parametrize("codec", CODECS)
def test_equals_reference(
    backend: Backend, codec: str, batch: int, cells: int, height: int, width: int,
    classes: int, dtype: torch.dtype, threshold: float | None,
) -> None:  # fmt: skip
    maps, anchors = case(codec, batch, cells, classes, height, width)
    maps, anchors = backend(maps.to(dtype)), backend(anchors)
    arguments = {"clip": 1.0, "scale_xy": 1.1, "bins": BINS, "score_threshold": threshold}
    boxes, scores = ops.decode_dense(maps, anchors, (8, 16), codec, **arguments)
    want_boxes, want_scores = reference.decode_dense(maps, anchors, (8, 16), codec, **arguments)
    assert boxes.dtype == dtype and boxes.shape == want_boxes.shape
    loose = {torch.float16: 5e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(boxes, want_boxes, rtol=loose, atol=100 * loose)
    if want_scores is None:
        assert scores is None
    else:
        assert scores is not None
        torch.testing.assert_close(scores, want_scores, rtol=loose, atol=loose)
        if threshold is not None and dtype == torch.float64:
            assert torch.equal(scores > 0, want_scores > 0)


def test_delta_equals_torchvision() -> None:
    """Compare with AnchorGenerator, BoxCoder and torchvision's permutation."""
    generator = detection.anchor_utils.AnchorGenerator(((32, 64),), ((0.5, 1.0, 2.0),))
    maps = torch.randn(2, 6 * 4, 9, 11)
    image = torch.zeros(2, 3, 144, 176)
    placed = generator(detection.image_list.ImageList(image, [(144, 176)] * 2), [maps])[0]
    flat = maps.view(2, 6, 4, 9, 11).permute(0, 3, 4, 1, 2).reshape(2, -1, 4)
    boxes, scores = ops.decode_dense(maps, generator.cell_anchors[0], 16, "delta")
    assert scores is None
    for b in range(2):
        want = detection._utils.BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(flat[b], placed)
        torch.testing.assert_close(boxes[b], want, rtol=1e-5, atol=1e-3)


def test_dfl_finds_the_bin(backend: Backend) -> None:
    """If one bin is far above the others, it is the distance. YOLOv8 has 16 bins."""
    logits = torch.zeros(1, 4, 16, 2, 3)
    logits[0, range(4), (0, 3, 7, 15)] = 200.0
    boxes, scores = ops.decode_dense(backend(logits.view(1, 64, 2, 3)), None, 8, "dfl")
    x = torch.tensor([4.0, 12, 20]).repeat(2)
    y = torch.tensor([4.0, 12]).repeat_interleave(3)
    want = torch.stack((x, y - 24, x + 56, y + 120), -1)
    torch.testing.assert_close(boxes[0].cpu(), want)
    assert scores is None


@pytest.mark.parametrize("codec", CODECS)
def test_rejected_cells_are_not_decoded(backend: Backend, codec: str) -> None:
    """NaN in a rejected cell never reaches the result or gradient; NaN in a kept cell does."""
    maps, anchors = case(codec, 1, 1, 2, 1, 2)
    numbers = 4 * BINS if codec == "dfl" else 4
    anchors = None if anchors is None else anchors[:1]
    maps[:, :numbers] = math.nan
    maps[:, numbers:, :, 0], maps[:, numbers:, :, 1] = -9, 9
    arguments = {"bins": BINS, "score_threshold": 0.5}
    boxes, scores = ops.decode_dense(backend(maps), backend(anchors), 8, codec, **arguments)
    assert scores is not None
    assert (boxes[0, 0] == 0).all() and (scores[0, 0] == 0).all()
    assert boxes[0, 1].isnan().all() and (scores[0, 1] > 0.5).all()
    grad = backend.native("decode_dense_backward")(
        torch.ones_like(boxes), backend(maps), backend(anchors), codec,
        [8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 0.5, float(BINS)],
    )  # fmt: skip
    assert (grad[..., 0] == 0).all()


def test_channels_last_maps(backend: Backend) -> None:
    maps, anchors = case("yolo", 2, 3, 5, 6, 7)
    maps = backend(maps.float())
    apart = ops.decode_dense(
        maps.to(memory_format=torch.channels_last), backend(anchors), 8, "yolo"
    )
    together = ops.decode_dense(maps, backend(anchors), 8, "yolo")
    assert all(torch.equal(a, b) for a, b in zip(apart, together, strict=True))


def test_nan_stays(backend: Backend) -> None:
    maps, anchors = case("delta", 1, 1, 1, 2, 2)
    maps[0, 0, 0, 0] = math.nan
    boxes, _ = ops.decode_dense(backend(maps.float()), backend(anchors), 8, "delta")
    assert boxes[0, 0].isnan().any() and boxes[0, 1:].isfinite().all()


@pytest.mark.parametrize("threshold", [None, 0.4])
@pytest.mark.parametrize("codec", CODECS)
def test_gradient_equals_autograd_of_reference(
    backend: Backend, codec: str, threshold: float | None
) -> None:
    maps, anchors = case(codec, 2, 3, 2, 5, 6)
    maps.requires_grad_()
    arguments = {"clip": 1.0, "scale_xy": 1.1, "bins": BINS, "score_threshold": threshold}
    boxes, _ = reference.decode_dense(maps, anchors, 8, codec, **arguments)
    grad = torch.randn_like(boxes)
    (want,) = torch.autograd.grad(boxes, maps, grad)
    least = -1.0 if threshold is None else threshold
    settings = [8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, least, float(BINS)]
    got = backend.native("decode_dense_backward")(
        backend(grad), backend(maps.detach()), backend(anchors), codec, settings
    )
    torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("codec", CODECS)
def test_gradcheck(codec: str) -> None:
    maps, anchors = case(codec, 1, 2, 1, 2, 3)
    maps.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda m: ops.decode_dense(m, anchors, 8, codec, bins=BINS)[0], maps
    )


def test_scores_take_no_gradient() -> None:
    maps, anchors = case("yolo", 1, 2, 1, 2, 3)
    _, scores = ops.decode_dense(maps.requires_grad_(), anchors, 8, "yolo")
    assert scores is not None and not scores.requires_grad


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_opcheck(codec: str, grad: bool) -> None:
    maps, anchors = case(codec, 1, 2, 2, 2, 3)
    settings = [8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, -1.0, float(BINS)]
    opcheck(torch.ops.detcore.decode_dense, (maps.requires_grad_(grad), anchors, codec, settings))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (torch.zeros(1, 8, 2), torch.zeros(2, 4), 8),
            "decode_dense: maps must be [B, A * (4 + E), H, W], got [1, 8, 2]",
        ),
        (
            (torch.zeros(1, 9, 2, 2), torch.zeros(2, 4), 8),
            "decode_dense: maps must have 2 * (4 + classes) channels, got 9",
        ),
        (
            (torch.zeros(1, 8, 2, 2), torch.zeros(2, 4), 8, "yolo"),
            "decode_dense: anchors must be [N, 2], got [2, 4]",
        ),
        (
            (torch.zeros(1, 8, 2, 2, device="meta"), torch.zeros(0, 4, device="meta"), 8),
            "decode_dense: anchors must hold at least one, got none",
        ),
        (
            (torch.zeros(1, 8, 2, 2), None, 8, "yolo"),
            "decode_dense: anchors must be given for codec 'yolo'",
        ),
        (
            (torch.zeros(1, 8, 2, 2), torch.zeros(1, 4), 8, "grid"),
            "decode_dense: anchors must be None for codec 'grid'",
        ),
        (
            (torch.zeros(1, 8, 2, 2), None, 8, "v9"),
            "decode_dense: codec must be one of delta, yolo, yolo5, grid, ltrb, dfl, got 'v9'",
        ),
        (
            (torch.zeros(1, 63, 2, 2), None, 8, "dfl"),
            "decode_dense: maps must have 1 * (64 + classes) channels, got 63",
        ),
        (
            (torch.zeros(1, 8, 2, 2), torch.zeros(2, 4), 0),
            "decode_dense: stride must be positive, got 0 and 0",
        ),
    ],
)
def test_errors(arguments, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        ops.decode_dense(*arguments)
    assert str(raised.value) == words
