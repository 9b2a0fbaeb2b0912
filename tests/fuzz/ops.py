"""Compares random cases of every op with its reference: shapes, dtypes, layouts, ties, NaN."""

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from detcore import ops, reference
from detcore.ops.registry import CALLS, OPERATORS, STEMS
from detcore.reference.match_boxes import match_by_iou
from tests.fuzz.draw import Draw
from tests.ops.conftest import Backend
from tests.ops.test_box_codec import TOLERANCE as OF_CODEC
from tests.ops.test_decode_dense import BINS, CODECS
from tests.ops.test_decode_dense import case as dense_case
from tests.ops.test_nms_3d import IOU_OF, by_our_iou_3d
from tests.ops.test_nms_rotated import by_our_iou
from tests.ops.test_paired_box_iou import KINDS
from tests.ops.test_roi_align import LAYOUTS
from tests.ops.test_roi_align import TOLERANCE as OF_POOLING


def close(got: Tensor, want: Tensor, rtol: float, atol: float) -> None:
    torch.testing.assert_close(
        got.cpu(), want, rtol=rtol, atol=atol, equal_nan=True, check_stride=False
    )


def same(got: Any, want: Any) -> None:
    for i, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, i
        assert torch.equal(ours.cpu(), theirs), f"result {i}"


# --- one check a family --------------------------------------------------------------------------
def box_iou(backend: Backend, draw: Draw) -> None:
    kind, dtype = draw(*KINDS), draw.dtype()
    fmt = draw("xyxy", "xywh", "cxcywh") if kind == "iou" else "xyxy"
    lead = draw((), (), (1,), (0,), (2, 3))
    count, n, m = math.prod(lead), draw.size(300 // (1 + len(lead) * 3)), draw.size(600)
    a, b = (ops.box_convert(draw.boxes(count * k), "xyxy", fmt).to(dtype) for k in (n, m))
    a, b = draw.view(a.view(*lead, n, 4)), draw.view(b.view(*lead, m, 4))
    eps = 0.0 if kind in ("iou", "giou") else 1e-7
    call: dict[str, Callable[..., Tensor]] = {
        "iou": partial(ops.box_iou, fmt=fmt), "giou": ops.generalized_box_iou,
        "diou": ops.distance_box_iou, "ciou": ops.complete_box_iou,
    }  # fmt: skip
    want = reference.box_iou(a, b, fmt, kind, eps)
    close(call[kind](backend(a), backend(b)), want, 1e-5, 1e-6)


def box_iou_exact(backend: Backend, draw: Draw) -> None:
    """With odd boxes too: no operation of an IoU is contracted, so all quotients are equal."""
    dtype = draw.dtype()
    a, b = (draw.view(draw.boxes(draw.size(300), odd=True).to(dtype)) for _ in range(2))
    got, want = ops.box_iou(backend(a), backend(b)).cpu(), reference.box_iou(a, b)
    same([got.isnan(), got.nan_to_num(-7)], [want.isnan(), want.nan_to_num(-7)])


def box_iou_backward(backend: Backend, draw: Draw) -> None:
    kind, n, m = draw(*KINDS), draw.size(120), draw.size(300)
    a, b = draw.boxes(n).requires_grad_(), draw.boxes(m).requires_grad_()
    eps = 1e-7 if kind in ("diou", "ciou") else 0.0
    grad = draw.normal(n, m)
    want = torch.autograd.grad(reference.box_iou(a, b, kind=kind, eps=eps), (a, b), grad)
    got = backend.native("box_iou_backward")(
        backend(draw.view(grad)), backend(a.detach()), backend(b.detach()), kind, eps
    )
    for g, w in zip(got, want, strict=True):
        close(g, w, 1e-9, 1e-11)


def box_iou_rotated(backend: Backend, draw: Draw) -> None:
    dtype, lead = draw.dtype(), draw((), (), (1,), (0,), (2, 3))
    count, n, m = math.prod(lead), draw.size(120 // (1 + len(lead) * 3)), draw.size(300)
    a, b = (
        draw.view(draw.rotated(count * k, odd=True).view(*lead, k, 5).to(dtype)) for k in (n, m)
    )
    want = reference.box_iou(a, b, "cxcywhr")
    got = ops.box_iou(backend(a), backend(b), "cxcywhr").cpu()
    close(got, want, 0, 1e-5)
    assert torch.equal(ops.box_iou(backend(b), backend(a), "cxcywhr").cpu().mT.nan_to_num(-7),
                       got.nan_to_num(-7))  # fmt: skip


def box3d_iou(backend: Backend, draw: Draw) -> None:
    dtype, lead, name = draw.dtype(), draw((), (), (1,), (0,), (2, 3)), draw(*IOU_OF)
    count, n, m = math.prod(lead), draw.size(120 // (1 + len(lead) * 3)), draw.size(300)
    a, b = (
        draw.view(draw.in_space(count * k, odd=True).view(*lead, k, 7).to(dtype)) for k in (n, m)
    )
    iou = IOU_OF[name]
    want = getattr(reference, iou.__name__)(a, b)
    got = iou(backend(a), backend(b)).cpu()
    close(got, want, 0, 1e-5)
    assert torch.equal(iou(backend(b), backend(a)).cpu().mT.nan_to_num(-7), got.nan_to_num(-7))


def paired_box_iou(backend: Backend, draw: Draw) -> None:
    if draw(True, False, False):
        kind, n, dtype = draw("iou", "giou"), draw.size(300), draw.dtype()
        a, b = (draw.view(draw.rotated(n, odd=True).to(dtype)) for _ in range(2))
        got = ops.paired_box_iou(backend(a), backend(b), kind, fmt="cxcywhr").cpu()
        close(got, reference.paired_box_iou(a, b, kind, fmt="cxcywhr"), 0, 1e-5)
        turned = ops.paired_box_iou(backend(b), backend(a), kind, fmt="cxcywhr").cpu()
        assert torch.equal(turned.nan_to_num(-7), got.nan_to_num(-7))
        return
    kind, n, dtype = draw(*KINDS), draw.size(600), draw.dtype()
    a, b = (draw.view(draw.boxes(n).to(dtype)) for _ in range(2))
    close(ops.paired_box_iou(backend(a), backend(b), kind), reference.paired_box_iou(a, b, kind),
          1e-5, 1e-6)  # fmt: skip
    x, y = draw.boxes(n).requires_grad_(), draw.boxes(n).requires_grad_()
    grad = draw.normal(n)
    want = torch.autograd.grad(reference.paired_box_iou(x, y, kind), (x, y), grad)
    got = backend.native("paired_box_iou_backward")(
        backend(grad), backend(x.detach()), backend(y.detach()), "xyxy", kind, 1e-7
    )
    for g, w in zip(got, want, strict=True):
        close(g, w, 1e-9, 1e-11)


def match_boxes(backend: Backend, draw: Draw) -> None:
    # in the simulator too, more ground truths than the CUDA kernel holds at once, which are 64
    m, n, dtype = draw.size(240 if draw.simulated else 120), draw.size(900), draw.dtype()
    rotated = draw(True, False, False)
    make = draw.rotated if rotated else draw.boxes
    gt, anchors = (draw.view(make(k, odd=True).to(dtype)) for k in (m, n))

    def matched(gt: Tensor, anchors: Tensor) -> tuple[Tensor, ...]:
        if not rotated:
            return reference.match_boxes(gt, anchors)
        iou = ops.box_iou(backend(gt), backend(anchors), "cxcywhr").cpu()
        return match_by_iou(iou, gt, anchors)

    way = draw("one image", "shared anchors", "own anchors")
    if way == "one image":
        same(ops.match_boxes(backend(gt), backend(anchors)), matched(gt, anchors))
        return
    images = draw.random.randint(1, 6)
    cut = lambda k: torch.cat(  # noqa: E731
        (torch.tensor([0]), draw.integers(k + 1, images - 1).sort().values, torch.tensor([k]))
    )
    gt_at = cut(m)
    anchor_at = cut(n) if way == "own anchors" else None
    each = []
    for i in range(images):
        own = anchors if anchor_at is None else anchors[anchor_at[i] : anchor_at[i + 1]]
        each.append(matched(gt[gt_at[i] : gt_at[i + 1]], own))
    want = [
        torch.cat(parts) if anchor_at is not None or k in (2, 3) else torch.stack(parts)
        for k, parts in enumerate(zip(*each, strict=True))
    ]
    offsets = [backend(at) for at in (gt_at, anchor_at) if at is not None]
    same(ops.match_boxes(backend(gt), backend(anchors), *offsets), want)


def box_codec(backend: Backend, draw: Draw) -> None:
    n, k, dtype = draw.size(500), draw(1, 1, 2, 5, 21), draw.dtype()
    weights, clip = draw([1.0] * 4, [10.0, 10.0, 5.0, 5.0]), draw(math.log(62.5), 1.0, 0.0)
    anchors, boxes, deltas = draw.plain_boxes(n), draw.plain_boxes(n), draw.normal(n, 4 * k)
    if n and draw(True, False):
        deltas[draw.integers(n, 2), 0] = draw(math.nan, 1e4, -1e4)
    a, b, d = (draw.view(x.to(dtype)) for x in (anchors, boxes, deltas))
    tolerance = OF_CODEC.get(dtype, 1e-5)
    got = ops.decode_boxes(backend(d), backend(a), weights, clip)
    want = reference.decode_boxes(d, a, weights, clip)
    big = want.abs().nan_to_num().amax().item() if n else 0.0  # errors grow with it
    close(got, want, tolerance, max(1e-4, big * 1e-6))
    close(ops.encode_boxes(backend(b), backend(a), weights),
          reference.encode_boxes(b, a, weights), tolerance, 1e-4)  # fmt: skip
    deltas = deltas.nan_to_num().clamp(-9, 9).requires_grad_()
    anchors.requires_grad_()
    grad = draw.normal(n, 4 * k)
    wants = torch.autograd.grad(
        reference.decode_boxes(deltas, anchors, weights, clip), (deltas, anchors), grad
    )
    gots = backend.native("decode_boxes_backward")(
        backend(grad), backend(deltas.detach()), backend(anchors.detach()), weights, clip
    )
    for g, w in zip(gots, wants, strict=True):
        close(g, w, 1e-9, 1e-9)


def decode_dense(backend: Backend, draw: Draw) -> None:
    codec, dtype, classes = draw(*CODECS), draw.dtype(), draw(0, 1, 3, 80)
    height, width = draw.random.randint(1, 20), draw.random.randint(1, 40)
    batch, cells = draw(0, 1, 2, 3), draw(1, 2, 3, 9)
    if draw.simulated or classes == 80:
        height, width = height // 3 + 1, width // 3 + 1
    maps, anchors = dense_case(
        codec, batch, cells, classes, height, width, draw.random.randrange(9999)
    )
    stride, clip = draw((8, 8), (8, 16), (32, 4)), draw(1.0, 4.0)
    settings = {"clip": clip, "scale_xy": draw(1.0, 1.1), "bins": BINS}
    threshold = draw(None, 0.3, draw.random.random())
    given = draw.view(maps.to(dtype))
    boxes, scores = ops.decode_dense(
        backend(given), backend(anchors), stride, codec, **settings, score_threshold=threshold
    )
    want_boxes, want_scores = reference.decode_dense(
        given, anchors, stride, codec, **settings, score_threshold=threshold
    )
    loose = {torch.float16: 5e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    sure = torch.ones(want_boxes.shape[:2], dtype=torch.bool)
    if threshold is not None and want_scores is not None:
        # avoid scores so near the threshold that the last bit of exp decides
        wide = given.double() if dtype == torch.float64 else given.float()
        exact = reference.decode_dense(wide, anchors, stride, codec, **settings)[1]
        assert exact is not None
        sure = ((exact - threshold).abs() > 1e-6).all(-1)
    close(boxes.cpu()[sure], want_boxes[sure], loose, 100 * loose)
    assert (scores is None) == (want_scores is None)
    if scores is not None and want_scores is not None:
        close(scores.cpu()[sure], want_scores[sure], loose, loose)
    maps.requires_grad_()
    boxes64, _ = reference.decode_dense(maps, anchors, stride, codec, **settings)
    grad = draw.normal(*boxes64.shape)
    (want,) = torch.autograd.grad(boxes64, maps, grad)
    values = [*map(float, stride), 1.0, 1.0, 1.0, 1.0, clip, settings["scale_xy"], -1.0, BINS]
    got = backend.native("decode_dense_backward")(
        backend(grad), backend(maps.detach()), backend(anchors), codec, [float(v) for v in values]
    )
    close(got, want, 1e-9, 1e-9)


def nms(backend: Backend, draw: Draw) -> None:
    n, dtype, threshold = draw.size(700), draw.dtype(), draw.threshold()
    boxes = draw.view(draw.boxes(n, odd=True).to(dtype))
    scores = draw.view(draw.scores(n, odd=True).to(draw(dtype, dtype, torch.float32)))
    classes = draw(None, None, 1, 3, 80)
    if classes is None:
        got = ops.nms(backend(boxes), backend(scores), threshold)
        same([got], [reference.nms(boxes, scores, threshold)])
    else:
        ids = draw.integers(classes, n) * draw(1, -(2**40), 2**55)
        got = ops.batched_nms(backend(boxes), backend(scores), backend(draw.view(ids)), threshold)
        same([got], [reference.batched_nms(boxes, scores, ids, threshold)])


def nms_rotated(backend: Backend, draw: Draw) -> None:
    """Equal to greedy suppression by our own IoUs, which box_iou_rotated checks."""
    n, dtype, threshold = draw.size(500), draw.dtype(), draw.threshold()
    boxes = draw.view(draw.rotated(n, odd=True).to(dtype))
    scores = draw.view(draw.scores(n, odd=True).to(draw(dtype, dtype, torch.float32)))
    ids = draw.integers(draw(1, 3, 80), n) * draw(1, -(2**40), 2**55)
    got = ops.batched_nms_rotated(backend(boxes), backend(scores), backend(ids), threshold)
    same([got], [by_our_iou(backend, boxes, scores, threshold, ids)])


def nms_3d(backend: Backend, draw: Draw) -> None:
    """Equal to greedy suppression by our own IoUs, which box3d_iou checks."""
    n, dtype, threshold, name = draw.size(500), draw.dtype(), draw.threshold(), draw(*IOU_OF)
    boxes = draw.view(draw.in_space(n, odd=True).to(dtype))
    scores = draw.view(draw.scores(n, odd=True).to(draw(dtype, dtype, torch.float32)))
    ids = draw.integers(draw(1, 3, 80), n) * draw(1, -(2**40), 2**55)
    suppression = getattr(ops, f"batched_{name}")
    got = suppression(backend(boxes), backend(scores), backend(ids), threshold)
    same([got], [by_our_iou_3d(backend, name, boxes, scores, threshold, ids)])


def points_in_boxes(backend: Backend, draw: Draw) -> None:
    dtype, lead = draw.dtype(), draw((), (), (1,), (0,), (2, 3))
    count, p, n = math.prod(lead), draw.size(600 // (1 + len(lead) * 3)), draw.size(200)
    boxes = draw.in_space(count * n, odd=True).view(*lead, n, 7)
    points = draw.normal(*lead, p, 3) * draw(0.5, 5, 100)
    if n:  # around some centres
        points += boxes[..., draw.integers(n, p), :3].nan_to_num(7, 7, 7)
    if points.numel() and draw(True, False):
        points.view(-1)[draw.integers(points.numel(), 2)] = draw(math.nan, math.inf, -math.inf)
    points, boxes = draw.view(points.to(dtype)), draw.view(boxes.to(dtype))
    same(ops.points_in_boxes(backend(points), backend(boxes)),
         reference.points_in_boxes(points, boxes))  # fmt: skip


def weighted_boxes_fusion(backend: Backend, draw: Draw) -> None:
    models = draw(1, 2, 5, 65)
    n = draw.size(max(60 // models, 4))  # the reference takes long
    seen = draw.boxes(n)
    boxes = [draw.view(seen + draw.normal(n, 4) * draw(0.0, 1.0, 10.0)) for _ in range(models)]
    boxes[0] = draw.boxes(draw.size(20), odd=True)
    scores = [draw.view(draw.scores(len(own)).abs()) for own in boxes]
    labels = [draw.integers(draw(1, 3, 9), len(own)) * draw(1, -(2**40)) for own in boxes]
    settings = ([draw(1.0, 0.5, 3.0) for _ in boxes], draw.threshold(), draw(0.0, 0.3, 2.0),
                draw("avg", "max", "box_and_model_avg", "absent_model_aware_avg"))  # fmt: skip
    got = ops.weighted_boxes_fusion(
        *([backend(own) for own in column] for column in (boxes, scores, labels)), *settings
    )
    want = reference.weighted_boxes_fusion(boxes, scores, labels, *settings)
    assert [x.shape for x in got] == [x.shape for x in want]
    close(got[1], want[1], 1e-9, 1e-9)


def soft_nms(backend: Backend, draw: Draw) -> None:
    n, dtype, method = draw.size(300), draw.dtype(), draw("linear", "linear", "gaussian")
    settings = {"iou_threshold": draw.threshold(), "sigma": draw(0.5, 0.1, 2.0),
                "min_score": draw(0.0, 1e-3, 0.2)}  # fmt: skip
    if method == "linear":
        boxes, scores = draw.boxes(n, odd=True).to(dtype), draw.scores(n, odd=True).to(dtype)
    else:  # in double and without ties, so that the last bit of exp does not decide
        boxes = draw.plain_boxes(n)
        scores = draw.uniform(n)
    boxes, scores = draw.view(boxes), draw.view(scores)
    keep, decayed = ops.soft_nms(backend(boxes), backend(scores), **settings, method=method)
    want, want_scores = reference.soft_nms(boxes, scores, **settings, method=method)
    same([keep], [want])
    if method == "linear":
        same([decayed], [want_scores])
    else:
        close(decayed, want_scores, 1e-12, 0)


def multiclass_nms(backend: Backend, draw: Draw) -> None:
    batch, n, classes = draw(0, 1, 1, 2, 3), draw.size(200), draw.random.randint(0, 9)
    dtype, score_dtype = draw.dtype(), draw.dtype()
    rotated = draw(True, False, False)
    make = draw.rotated if rotated else draw.boxes
    boxes = make(batch * n, odd=True).view(batch, n, 5 if rotated else 4)
    if draw(True, False) and classes:
        boxes = torch.stack([boxes.roll(c, 1) + c for c in range(classes)], 2)
    scores = draw.scores(batch * n * classes, odd=True).view(batch, n, classes)
    boxes, scores = draw.view(boxes.to(dtype)), draw.view(scores.to(score_dtype))
    settings = (draw(0.0, 0.05, 0.5, -1.0), draw.threshold(), draw(1, 9, 30, 400),
                draw(1, 7, 100, 300))  # fmt: skip
    same(ops.multiclass_nms(backend(boxes), backend(scores), *settings),
         reference.multiclass_nms(
             boxes, scores, *settings, suppress=partial(by_our_iou, backend) if rotated else None
         ))  # fmt: skip


def _rois(draw: Draw, images: int, n: int, extent: float, dtype: torch.dtype) -> Tensor:
    low = draw.uniform(n, 2) * 1.5 * extent - extent / 4
    rois = torch.cat((low, low + draw.uniform(n, 2) * draw(0.1, 0.5, 1.5) * extent - 1), 1)
    rois = rois.round() if draw(True, False, False) else rois
    if n and draw(True, False, False):
        rois[draw.integers(n, 2), draw.integers(4, 2)] = draw(math.nan, math.inf, -math.inf)
    rois = torch.cat((draw.integers(images, n, 1), rois), 1)
    return rois if dtype == torch.float64 else rois.float()


def _map(draw: Draw, x: Tensor) -> Tensor:
    return draw.view(x) if draw(True, False) else x.to(memory_format=draw(*LAYOUTS))


def roi_align(backend: Backend, draw: Draw) -> None:
    images, channels, n = draw(1, 2, 3), draw(1, 3, 4, 8, 16, 17, 0), draw.size(24)
    height, width, dtype = draw.random.randint(1, 30), draw.random.randint(1, 30), draw.dtype()
    output = (draw(1, 2, 3, 7), draw(1, 2, 5, 7))
    ratio, aligned, scale = draw(-1, 0, 1, 2, 3), draw(True, False), draw(1.0, 0.5, 0.3)
    input = _map(draw, draw.normal(images, channels, height, width).to(dtype))
    rois = _rois(draw, images, n, max(height, width) / scale, dtype)
    want = reference.roi_align(input, rois, output, scale, ratio, aligned)
    got = ops.roi_align(backend(input), backend(draw.view(rois)), output, scale, ratio, aligned)
    close(got, want, OF_POOLING[dtype], OF_POOLING[dtype])
    wide = draw.normal(images, channels, height, width).requires_grad_()
    pooled = reference.roi_align(wide, rois, output, scale, ratio, aligned)
    grad, last = draw.normal(*pooled.shape), draw(True, False)
    (want,) = torch.autograd.grad(pooled, wide, grad)
    got = backend.native("roi_align_backward")(
        backend(grad.to(memory_format=LAYOUTS[last])), backend(rois.double()), scale, *output,
        ratio, aligned, list(wide.shape), last,
    )  # fmt: skip
    if dtype == torch.float64:  # the reference rounds boxes to the arithmetic type of the maps
        close(got, want, 1e-9, 1e-9)


def roi_align_rotated(backend: Backend, draw: Draw) -> None:
    """Not at whole angles and places: there the last bit says whether a sample is outside."""
    images, channels, n = draw(1, 2, 3), draw(1, 3, 4, 8, 16, 17, 0), draw.size(24)
    height, width, dtype = draw.random.randint(1, 30), draw.random.randint(1, 30), draw.dtype()
    output, last = (draw(1, 2, 3, 7), draw(1, 2, 5, 7)), draw(True, False)
    scale = draw(1.0, 0.5, 0.3)
    settings = (draw(-1, 0, 1, 2, 3, 6), draw(True, False), draw(True, False))
    extent = max(height, width) / scale
    centre = draw.uniform(n, 2) * 1.5 * extent - extent / 4
    side = draw.uniform(n, 2) * draw(0.1, 0.5, 1.5) * extent
    rois = torch.cat((centre, side, draw.uniform(n, 1) * 720 - 360), 1)
    if n and draw(True, False, False):
        rois[draw.integers(n, 2), draw.integers(5, 2)] = draw(math.nan, math.inf, -math.inf)
    rois = torch.cat((draw.integers(images, n, 1), rois), 1)
    wide = draw.normal(images, channels, height, width)
    input = wide.to(dtype)
    if input.numel() and draw(True, False, False):
        input.view(-1)[draw.integers(input.numel(), 3)] = draw(math.nan, math.inf, -math.inf)
    input, ours = _map(draw, input), rois if dtype == torch.float64 else rois.float()
    want = reference.roi_align_rotated(input, ours, output, scale, *settings)
    got = ops.roi_align_rotated(backend(input), backend(draw.view(ours)), output, scale, *settings)
    close(got, want, OF_POOLING[dtype], OF_POOLING[dtype])
    pooled = reference.roi_align_rotated(wide.requires_grad_(), rois, output, scale, *settings)
    grad = draw.normal(*pooled.shape)
    (want,) = torch.autograd.grad(pooled, wide, grad)
    got = backend.native("roi_align_rotated_backward")(
        backend(grad.to(memory_format=LAYOUTS[last])), backend(rois), scale, *output, *settings,
        list(wide.shape), last,
    )  # fmt: skip
    close(got, want, 1e-9, 1e-9)


def roi_pool(backend: Backend, draw: Draw) -> None:
    """The values are the reference's to the bit; with odd pixels, and with many ties."""
    images, channels, n = draw(1, 2, 3), draw(1, 3, 4, 8, 16, 17, 0), draw.size(24)
    height, width, dtype = draw.random.randint(1, 30), draw.random.randint(1, 30), draw.dtype()
    output, scale = (draw(1, 2, 3, 7), draw(1, 2, 5, 7)), draw(1.0, 0.5, 0.3)
    values = draw.normal(images, channels, height, width)
    values = values.round() if draw(True, False) else values
    if values.numel() and draw(True, False):
        values.view(-1)[draw.integers(values.numel(), 9)] = draw(math.nan, math.inf, -math.inf)
    input = _map(draw, values.to(dtype))
    rois = _rois(draw, images, n, max(height, width) / scale, dtype)
    leaf = input.detach().requires_grad_()
    want = reference.roi_pool(leaf, rois, output, scale)
    got, places = backend.native("roi_pool")(backend(input), backend(rois), scale, *output)
    close(got, want.detach(), 0, 0)
    grad, last = draw.normal(*want.shape).to(dtype), draw(True, False)
    (want,) = torch.autograd.grad(want, leaf, grad)
    got = backend.native("roi_pool_backward")(
        backend(grad), backend(rois), places, scale, list(values.shape), last
    )
    if dtype in (torch.float32, torch.float64):  # the reference adds halves in halves
        close(got, want, 1e-9 if dtype == torch.float64 else 1e-4, 1e-4)


def multiscale_roi_align(backend: Backend, draw: Draw) -> None:
    images, channels, n = draw(1, 2), draw(1, 3, 8), draw.size(20)
    levels, size, dtype = draw(1, 2, 3, 4), draw(32, 64, 96), draw.dtype()
    scales = [2.0 ** -(k + 1) for k in range(levels)]
    output, ratio, aligned = (draw(1, 2, 7), draw(1, 3)), draw(-1, 2), draw(True, False)
    maps = [
        _map(draw, draw.normal(images, channels, size >> (k + 1), (size + 16) >> (k + 1)).to(dtype))
        for k in range(levels)
    ]
    rois = _rois(draw, images, n, size, dtype)
    canonical = (draw(8, 32, 50), draw(1, 2, 3))
    want = reference.multiscale_roi_align(maps, rois, output, scales, ratio, *canonical, aligned)
    got = ops.multiscale_roi_align(
        backend(maps), backend(rois), output, scales, ratio, *canonical, aligned=aligned
    )
    close(got, want, OF_POOLING[dtype], OF_POOLING[dtype])


def by_samples(stem: str, backend: Backend, draw: Draw) -> None:
    """For a stem without its own check: its calls in the registry, with any size and layout.

    The reference defines the result for odd numbers too.
    """
    call = CALLS[draw(*(name for name, c in CALLS.items() if OPERATORS[c.operator].stem == stem))]
    tensors, dtype = call.samples(draw.random.randrange(10**6), draw.size(300)), draw(*call.dtypes)
    tensors = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
    odd = [t for t in tensors if t.is_floating_point() and t.numel()]
    if odd and draw(True, False):
        some = draw.random.choice(odd)
        some.view(-1)[draw.integers(some.numel(), 2)] = draw(0.0, math.nan, math.inf, -math.inf)
    tensors = [draw.view(t) for t in tensors]
    want = tree_leaves((call.reference or call.run)(reference, *tensors))
    got = tree_leaves(call.run(ops, *(backend(t) for t in tensors)))
    for ours, theirs in zip(got, want, strict=True):
        close(ours, theirs, OF_POOLING[dtype], 10 * OF_POOLING[dtype])


CHECKS: dict[str, Callable[[Backend, Draw], None]] = {
    check.__name__: check
    for check in (
        box_iou, box_iou_exact, box_iou_backward, box_iou_rotated, box3d_iou, paired_box_iou,
        match_boxes, box_codec, decode_dense, nms, nms_rotated, nms_3d, points_in_boxes, soft_nms,
        weighted_boxes_fusion,
        multiclass_nms, roi_align, roi_pool, multiscale_roi_align,
        box_iou, box_iou_exact, box_iou_backward, box_iou_rotated, paired_box_iou, match_boxes,
        box_codec, decode_dense, nms, nms_rotated, soft_nms, multiclass_nms, roi_align,
        roi_align_rotated, roi_pool, multiscale_roi_align,
    )
}  # fmt: skip
CHECKS |= {stem: partial(by_samples, stem) for stem in STEMS if stem not in CHECKS}


class OpFuzz:
    """Cases of one of `CHECKS` on one backend."""

    def __init__(self, op: str, backend: Backend) -> None:
        self.op, self.backend = op, backend

    def case(self, rng: random.Random) -> None:
        draw = Draw(rng, self.backend)
        try:
            CHECKS[self.op](self.backend, draw)
        except Exception as error:
            raise AssertionError(
                f"{self.op} on {self.backend.name}, of {draw.told}: {error}"
            ) from error
