"""Suppression in terms of ONNX's NonMaxSuppression, which takes float32 alone.

That returns (batch, class, box) of what is kept, class by class; detcore returns the boxes of all
classes by descending score, and equal scores by ascending index.
"""

import torch

from detcore.onnx._graph import Graph, Value

UNLIMITED = 2**63 - 1
NOTHING = float("-inf")  # the score of what is no candidate


def _suppressed(
    g: Graph, boxes: Value, scores: Value, iou_threshold: float, score_threshold: float
) -> Value:
    """[K, 3] of boxes [B, N, 4] and scores [B, C, N]."""
    iou = torch.tensor(min(iou_threshold, 1.0), dtype=torch.float32)  # ONNX takes no more than 1
    if iou.item() > iou_threshold:
        # a quotient is compared with the threshold as a double, not with one that is rounded up
        iou = iou.nextafter(torch.tensor(NOTHING))
    return g.NonMaxSuppression(boxes, scores, [UNLIMITED], [iou.item()], [score_threshold])


def _ranks(g: Graph, scores: Value) -> Value:
    """float32 [N]: a higher number for a better box, of equal scores for the lower index, and
    `NOTHING` for NaN. NonMaxSuppression may have these in place of scores of any dtype."""
    missing = g.IsNaN(scores)
    scores = g.Where(missing, g.CastLike(NOTHING, scores), scores)
    count = g.Shape(scores)
    _, order = g.TopK(scores, count, axis=0, outputs=2)  # of equal ones the lower index is first
    places = g.float32(g.Range(g.Squeeze(count, [0]), 0, -1))
    return g.Where(missing, NOTHING, g.ScatterElements(places, order, places, axis=0))


def _by_rank(g: Graph, found: Value, ranks: Value) -> Value:
    indices = g.Gather(found, 2, axis=1)
    _, order = g.TopK(g.Gather(ranks, indices, axis=0), g.Shape(indices), axis=0, outputs=2)
    return g.Gather(indices, order, axis=0)


def nms(g: Graph, boxes: Value, scores: Value, iou_threshold: float) -> Value:
    """Indices [K] of boxes [N, 4]."""
    ranks = _ranks(g, g.arithmetic(scores))
    apart = g.Unsqueeze(g.float32(boxes), [0]), g.Unsqueeze(ranks, [0, 1])
    return _by_rank(g, _suppressed(g, *apart, iou_threshold, NOTHING), ranks)


def batched_nms(g: Graph, boxes: Value, scores: Value, idxs: Value, iou_threshold: float) -> Value:
    """Indices [K] of boxes [N, 4]; holds a score for each box and class."""
    ranks = _ranks(g, g.arithmetic(scores))
    classes, _, place, _ = g.Unique(idxs, outputs=4)
    rows = g.Range(0, g.Squeeze(g.Shape(classes), [0]), 1)
    own = g.Equal(g.Unsqueeze(rows, [1]), g.Unsqueeze(place, [0]))
    by_class = g.Where(own, g.Unsqueeze(ranks, [0]), NOTHING)  # [C, N]
    apart = g.Unsqueeze(g.float32(boxes), [0]), g.Unsqueeze(by_class, [0])
    return _by_rank(g, _suppressed(g, *apart, iou_threshold, NOTHING), ranks)


def multiclass_nms(
    g: Graph,
    boxes: Value,
    scores: Value,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_per_image: int,
) -> tuple[Value, Value, Value, Value]:
    """Boxes, scores, labels and counts of a batch, as the op returns them."""
    per_class = g.rank(boxes) == 4
    given_boxes, given_scores = boxes, scores
    boxes, scores = g.float32(boxes), g.Transpose(g.float32(scores), perm=[0, 2, 1])
    scores = g.Where(g.IsNaN(scores), NOTHING, scores)  # [B, C, N]
    batch, classes, count = (g.size(scores, k) for k in range(3))

    # the best of each class, as an image of its own with one class
    best, at = g.TopK(scores, g.Min(count, [candidates_per_class]), axis=2, outputs=2)
    tried = g.size(best, 2)
    if per_class:
        boxes = g.Transpose(boxes, perm=[0, 2, 1, 3])  # [B, C, N, 4]
    else:
        shape = g.Concat(batch, classes, count, [4], axis=0)
        boxes = g.Expand(g.Unsqueeze(boxes, [1]), shape)
    corners = g.Expand(g.Unsqueeze(at, [3]), g.Concat(g.Shape(at), [4], axis=0))
    boxes = g.GatherElements(boxes, corners, axis=2)  # [B, C, k, 4]
    images = g.Mul(batch, classes)
    found = _suppressed(
        g,
        g.Reshape(boxes, g.Concat(images, tried, [4], axis=0), allowzero=1),
        g.Reshape(best, g.Concat(images, [1], tried, axis=0), allowzero=1),
        iou_threshold,
        score_threshold,
    )

    # what was kept, in its place among the candidates of its image; -inf elsewhere
    row, column = g.Gather(found, [0], axis=1), g.Gather(found, [2], axis=1)
    flat = g.Squeeze(g.Add(g.Mul(row, tried), column), [1])
    every = g.Reshape(best, [-1])
    nothing = g.Expand(NOTHING, g.Shape(every))
    kept = g.ScatterElements(nothing, flat, g.Gather(every, flat, axis=0), axis=0)
    in_image = g.Mul(classes, tried)
    kept = g.Reshape(kept, g.Concat(batch, in_image, axis=0), allowzero=1)

    # the best of each image; the candidates come by class and rank, so ties are in order
    room = g.Concat([0, 0, 0], g.Max(g.Sub([max_per_image], in_image), [0]), axis=0)
    kept = g.Pad(kept, room, NOTHING)
    result, place = g.TopK(kept, [max_per_image], axis=1, outputs=2)
    real = g.Greater(result, NOTHING)
    place = g.Where(real, place, 0)
    rows = g.Reshape(boxes, g.Concat(batch, in_image, [4], axis=0), allowzero=1)
    # one row at least, so that there is something to point at
    rows = g.Pad(rows, [0, 0, 0, 0, 1, 0], 0.0)
    wide = g.Expand(g.Unsqueeze(place, [2]), g.Concat(g.Shape(place), [4], axis=0))
    chosen = g.GatherElements(rows, wide, axis=1)
    return (
        g.CastLike(g.Where(g.Unsqueeze(real, [2]), chosen, 0.0), given_boxes),
        g.CastLike(g.Where(real, result, 0.0), given_scores),
        g.Where(real, g.Div(place, g.Max(tried, [1])), -1),
        g.ReduceSum(g.int64(real), [1], keepdims=0),
    )
