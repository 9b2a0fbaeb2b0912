"""Suppression in terms of ONNX's NonMaxSuppression, which takes float32 alone.

ONNX's gives (batch, class, box) of what is kept, class by class; ours is by descending score over
all, equal scores by ascending index.
"""

from detcore.onnx._graph import Graph, Value

UNLIMITED = 2**63 - 1
LOWEST = -3.4028234663852886e38  # of float32: scores of -inf are no candidates


def _suppressed(
    g: Graph, boxes: Value, scores: Value, iou_threshold: float, score_threshold: float
) -> Value:
    """[K, 3] of boxes [B, N, 4] and scores [B, C, N]."""
    limit, iou = [UNLIMITED], [float(iou_threshold)]
    threshold = [float(score_threshold)]
    return g.NonMaxSuppression(boxes, scores, limit, iou, threshold)


def _by_score(g: Graph, indices: Value, scores: Value) -> Value:
    """Indices [K] of scores [N], by descending score; equal scores by ascending index."""
    count = g.Shape(indices)
    ascending, _ = g.TopK(indices, count, axis=0, largest=0, sorted=1, outputs=2)
    _, order = g.TopK(g.Gather(scores, ascending, axis=0), count, axis=0, outputs=2)
    return g.Gather(ascending, order, axis=0)


def nms(g: Graph, boxes: Value, scores: Value, iou_threshold: float) -> Value:
    boxes, scores = g.float32(boxes), g.float32(scores)
    apart = g.Unsqueeze(boxes, [0]), g.Unsqueeze(scores, [0, 1])
    found = _suppressed(g, *apart, iou_threshold, LOWEST)
    return _by_score(g, g.Gather(found, 2, axis=1), scores)


def batched_nms(g: Graph, boxes: Value, scores: Value, idxs: Value, iou_threshold: float) -> Value:
    boxes, scores = g.float32(boxes), g.float32(scores)
    classes, _, place, _ = g.Unique(idxs, outputs=4)
    # [C, N]: the scores of a class's own boxes, -inf elsewhere
    rows = g.Range(0, g.Squeeze(g.Shape(classes), [0]), 1)
    own = g.Equal(g.Unsqueeze(rows, [1]), g.Unsqueeze(place, [0]))
    by_class = g.Where(own, g.Unsqueeze(scores, [0]), float("-inf"))
    apart = g.Unsqueeze(boxes, [0]), g.Unsqueeze(by_class, [0])
    found = _suppressed(g, *apart, iou_threshold, LOWEST)
    return _by_score(g, g.Gather(found, 2, axis=1), scores)


def multiclass_nms(
    g: Graph,
    boxes: Value,
    scores: Value,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_per_image: int,
) -> tuple[Value, Value, Value, Value]:
    per_class = g.rank(boxes) == 4
    given_boxes, given_scores = boxes, scores
    boxes, scores = g.float32(boxes), g.Transpose(g.float32(scores), perm=[0, 2, 1])
    scores = g.Where(g.IsNaN(scores), float("-inf"), scores)  # [B, C, N]
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
    nothing = g.Expand(float("-inf"), g.Shape(every))
    kept = g.ScatterElements(nothing, flat, g.Gather(every, flat, axis=0), axis=0)
    in_image = g.Mul(classes, tried)
    kept = g.Reshape(kept, g.Concat(batch, in_image, axis=0), allowzero=1)

    # the best of each image; the candidates come by class and rank, so ties are in order
    room = g.Concat([0, 0, 0], g.Max(g.Sub([max_per_image], in_image), [0]), axis=0)
    kept = g.Pad(kept, room, float("-inf"))
    result, place = g.TopK(kept, [max_per_image], axis=1, outputs=2)
    real = g.Greater(result, float("-inf"))
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
