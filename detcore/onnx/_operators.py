"""detcore's operators in terms of ONNX's: each function takes a `Graph` and the arguments."""

import math

from detcore.onnx import _nms, _pooling
from detcore.onnx._graph import Graph, Translation, Value


def _columns(g: Graph, boxes: Value) -> tuple[Value, Value, Value, Value]:
    """The four numbers of boxes, each [..., 1]."""
    x1, y1, x2, y2 = (g.Slice(boxes, [k], [k + 1], [-1]) for k in range(4))
    return x1, y1, x2, y2


def _number(g: Graph, value: float, like: Value) -> Value:
    return g.CastLike(value, like)


def _corners(g: Graph, boxes: Value, fmt: str) -> tuple[Value, Value, Value, Value]:
    a, b, c, d = _columns(g, boxes)
    if fmt == "xyxy":
        return a, b, c, d
    if fmt == "xywh":
        return a, b, g.Add(a, c), g.Add(b, d)
    half = _number(g, 0.5, a)
    w, h = g.Mul(c, half), g.Mul(d, half)
    return g.Sub(a, w), g.Sub(b, h), g.Add(a, w), g.Add(b, h)


def _iou(
    g: Graph, first: list[Value], second: list[Value], kind: str, eps: float, area_eps: float
) -> Value:
    """IoU or one of its kin of corners that broadcast; see `detcore.reference.paired_box_iou`."""
    (x11, y11, x12, y12), (x21, y21, x22, y22) = first, second

    def number(value: float) -> Value:
        return _number(g, value, x11)

    w1, h1, w2, h2 = g.Sub(x12, x11), g.Sub(y12, y11), g.Sub(x22, x21), g.Sub(y22, y21)
    inter_w = g.Relu(g.Sub(g.Min(x12, x22), g.Max(x11, x21)))
    inter_h = g.Relu(g.Sub(g.Min(y12, y22), g.Max(y11, y21)))
    inter = g.Mul(inter_w, inter_h)
    union = g.Sub(g.Add(g.Mul(w1, h1), g.Mul(w2, h2)), inter)
    iou = g.Div(inter, g.Add(union, number(area_eps)))
    if kind == "iou":
        return iou
    hull_w = g.Relu(g.Sub(g.Max(x12, x22), g.Min(x11, x21)))
    hull_h = g.Relu(g.Sub(g.Max(y12, y22), g.Min(y11, y21)))
    if kind == "giou":
        hull = g.Mul(hull_w, hull_h)
        return g.Sub(iou, g.Div(g.Sub(hull, union), g.Add(hull, number(area_eps))))
    squares = g.Add(g.Mul(hull_w, hull_w), g.Mul(hull_h, hull_h))
    dx, dy = (
        g.Mul(g.Sub(g.Add(a, b), g.Add(c, d)), number(0.5))
        for a, b, c, d in ((x11, x12, x21, x22), (y11, y12, y21, y22))
    )
    distance = g.Add(g.Mul(dx, dx), g.Mul(dy, dy))
    diou = g.Sub(iou, g.Div(distance, g.Add(squares, number(eps))))
    if kind == "diou":
        return diou
    angles = (g.Atan(g.float32(g.Div(w, h))) for w, h in ((w1, h1), (w2, h2)))  # ONNX Runtime's
    turn = g.CastLike(g.Sub(*angles), x11)  # arctangent is of float32 alone
    v = g.Mul(g.Mul(turn, turn), number(4 / math.pi**2))
    alpha = g.Div(v, g.Add(g.Add(g.Sub(number(1.0), iou), v), number(eps)))
    return g.Sub(diou, g.Mul(alpha, v))


def box_iou(g: Graph, boxes1: Value, boxes2: Value, fmt: str, kind: str, eps: float) -> Value:
    boxes1, boxes2 = g.arithmetic(boxes1), g.arithmetic(boxes2)
    first = [g.Unsqueeze(c, [-2]) for c in _corners(g, boxes1, fmt)]  # [..., N, 1, 1]
    second = [g.Unsqueeze(c, [-3]) for c in _corners(g, boxes2, fmt)]  # [..., 1, M, 1]
    return g.Squeeze(_iou(g, first, second, kind, eps, 0.0), [-1])


def paired_box_iou(
    g: Graph, boxes1: Value, boxes2: Value, fmt: str, kind: str, eps: float
) -> Value:
    if fmt != "xyxy":
        raise NotImplementedError("paired_box_iou: rotated boxes can't be exported to ONNX")
    boxes1, boxes2 = g.arithmetic(boxes1), g.arithmetic(boxes2)
    first, second = (list(_columns(g, boxes)) for boxes in (boxes1, boxes2))
    return g.Squeeze(_iou(g, first, second, kind, eps, eps), [-1])


def _centre_and_size(g: Graph, boxes: Value) -> tuple[Value, Value, Value, Value]:
    x1, y1, x2, y2 = _columns(g, boxes)
    w, h = g.Sub(x2, x1), g.Sub(y2, y1)
    half = _number(g, 0.5, x1)
    return g.Add(x1, g.Mul(w, half)), g.Add(y1, g.Mul(h, half)), w, h


def encode_boxes(g: Graph, boxes: Value, anchors: Value, weights: list[float]) -> Value:
    given = boxes
    boxes, anchors = g.arithmetic(boxes), g.arithmetic(anchors)
    bx, by, bw, bh = _centre_and_size(g, boxes)
    ax, ay, aw, ah = _centre_and_size(g, anchors)
    parts = (
        g.Div(g.Sub(bx, ax), aw), g.Div(g.Sub(by, ay), ah),
        g.Log(g.Div(bw, aw)), g.Log(g.Div(bh, ah)),
    )  # fmt: skip
    weighted = [g.Mul(p, _number(g, w, p)) for p, w in zip(parts, weights, strict=True)]
    return g.CastLike(g.Concat(*weighted, axis=-1), given)


def decode_boxes(
    g: Graph, deltas: Value, anchors: Value, weights: list[float], clip: float
) -> Value:
    given = deltas
    deltas, anchors = g.arithmetic(deltas), g.arithmetic(anchors)
    rows, columns = g.size(deltas, 0), g.size(deltas, 1)
    shape = g.Concat(rows, g.Div(columns, [4]), [4], axis=0)
    split = g.Reshape(deltas, shape, allowzero=1)  # [N, k, 4]
    dx, dy, dw, dh = (
        g.Div(c, _number(g, w, c)) for c, w in zip(_columns(g, split), weights, strict=True)
    )
    ax, ay, aw, ah = (g.Unsqueeze(v, [1]) for v in _centre_and_size(g, anchors))  # [N, 1, 1]
    x, y = g.Add(g.Mul(dx, aw), ax), g.Add(g.Mul(dy, ah), ay)
    limit, half = _number(g, clip, dw), _number(g, 0.5, dw)
    w = g.Mul(g.Mul(g.Exp(g.Min(dw, limit)), aw), half)
    h = g.Mul(g.Mul(g.Exp(g.Min(dh, limit)), ah), half)
    boxes = g.Concat(g.Sub(x, w), g.Sub(y, h), g.Add(x, w), g.Add(y, h), axis=-1)
    return g.CastLike(g.Reshape(boxes, g.Shape(deltas), allowzero=1), given)


OPERATORS: dict[str, Translation] = {
    "box_iou": box_iou,
    "paired_box_iou": paired_box_iou,
    "encode_boxes": encode_boxes,
    "decode_boxes": decode_boxes,
    "nms": _nms.nms,
    "batched_nms": _nms.batched_nms,
    "multiclass_nms": _nms.multiclass_nms,
    "roi_align": _pooling.roi_align,
    "multiscale_roi_align": _pooling.multiscale_roi_align,
}
