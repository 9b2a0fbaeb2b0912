"""ROI-align in terms of ONNX's RoiAlign, which has the image index of each region apart."""

import math

from detcore.onnx._graph import Graph, Value


def _regions(g: Graph, rois: Value, like: Value) -> tuple[Value, Value]:
    """Boxes [K, 4] in the map's dtype, and the image index [K] of each."""
    image = g.int64(g.Squeeze(g.Slice(rois, [0], [1], [1]), [1]))
    return g.CastLike(g.Slice(rois, [1], [5], [1]), like), image


def roi_align(
    g: Graph,
    input: Value,
    rois: Value,
    spatial_scale: float,
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Value:
    boxes, image = _regions(g, rois, input)
    return g.RoiAlign(
        input, boxes, image,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        output_height=int(out_height), output_width=int(out_width),
        sampling_ratio=max(int(sampling_ratio), 0), spatial_scale=float(spatial_scale),
    )  # fmt: skip


def multiscale_roi_align(
    g: Graph,
    features: list[Value],
    rois: Value,
    scales: list[float],
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> Value:
    x1, y1, x2, y2 = (g.Squeeze(g.Slice(rois, [k], [k + 1], [1]), [1]) for k in range(1, 5))
    size = g.Sqrt(g.Mul(g.Sub(x2, x1), g.Sub(y2, y1)))

    def number(value: float) -> Value:
        return g.CastLike(value, size)

    log2 = g.Div(g.Log(g.Div(size, number(canonical_scale))), number(math.log(2)))
    level = g.Floor(g.Add(log2, number(canonical_level + 1e-6)))
    pooled = None
    # the first map pools all regions, and each further one those that reach its level
    for feature, scale in zip(features, scales, strict=True):
        settings = (scale, out_height, out_width, sampling_ratio, aligned)
        if pooled is None:
            pooled = roi_align(g, feature, rois, *settings)
            continue
        reached = g.GreaterOrEqual(level, number(float(int(-math.log2(scale)))))
        here = g.Transpose(g.NonZero(reached), perm=[1, 0])
        part = roi_align(g, feature, g.Gather(rois, g.Squeeze(here, [1]), axis=0), *settings)
        pooled = g.ScatterND(pooled, here, part)
    return pooled
