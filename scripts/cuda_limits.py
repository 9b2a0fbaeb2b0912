"""Lower bounds for the time of CUDA kernels, from bytes and arithmetic: a table in markdown.

Nothing is measured, and latency is ignored. Sizes are those of `detcore bench`, except for the
pairs and float16. Bytes and launches are those that the headers in csrc/kernels/include/detcore
state. CONTRIBUTING.md contains the table, and tests/test_docs.py compares the two.
"""

from collections.abc import Iterator
from typing import NamedTuple

F16, F32, I64, FLAG = 2, 4, 8, 1  # bytes
BOX = 4 * F32

# Operations of box.h. A minimum, a comparison, a division and an exponential count as one each.
AREA = 3  # two sides, their product
INTERSECTION = 9  # four corners, two sides, both clamped at 0, their product: 4 + 2 + 2 + 1
IOU = INTERSECTION + 4  # union 2, eps, quotient
GIOU = IOU + 13  # hull 9, difference, eps, quotient, difference
IOU_GRADIENT = 50  # for one of the two boxes
GIOU_GRADIENT = 120  # for both
DECODE = 26  # anchor's size and centre 6, centre 6, half sides 10, corners 4
NMS_TEST = INTERSECTION + 2 * AREA + 4  # union 2, product with the threshold, comparison
MATCH_TEST = 10  # most pairs do not overlap


class Machine(NamedTuple):
    """A data sheet."""

    name: str
    bytes: float  # a second
    operations: float  # a second, float32, a fused multiply-add being two


class Work(NamedTuple):
    name: str
    bytes: int  # every input is read and every output written once, unless a header says more
    operations: int
    launches: int

    def microseconds(self, machine: Machine) -> float:
        return 1e6 * max(self.bytes / machine.bytes, self.operations / machine.operations)


MACHINES = (
    Machine("A100 SXM 80 GB", 2039e9, 19.5e12),
    Machine("H100 SXM", 3352e9, 66.9e12),
)


def pair_tests(boxes: int, extent: float, side: float, iou: float) -> int:
    """Tests of each box with the better half of nine grid cells, for boxes spread over extent^2."""
    in_a_cell = boxes * ((1 - iou) * side / extent) ** 2
    return round(boxes * min(9 * in_a_cell, boxes) / 2)


def nms(name: str, boxes: int, extent: float = 1000, side: float = 101, classes: int = 1) -> Work:
    ids = I64 if classes > 1 else 0
    # in: box, score, place in the order, class; out: kept indices, at most all
    moved = boxes * (BOX + F32 + I64 + ids + I64)
    tests = pair_tests(boxes, extent, side, iou=0.5) // classes
    # one block; or a memset, count, prefix sum, insert, compare, decide, compact
    launches = 1 if boxes <= (2048 if ids else 1024) else 7
    return Work(name, moved, tests * NMS_TEST, launches)


def soft_nms(name: str, boxes: int) -> Work:
    # in: box, score; out: index, score
    moved = boxes * (BOX + F32 + I64 + F32)
    # each selection visits all remaining boxes: the overlap test and the best score
    tests = boxes * (boxes - 1) // 2
    return Work(name, moved, tests * (INTERSECTION + 2), launches=1)


def multiclass_nms(
    name: str, boxes: int, classes: int, candidates: int, results: int, extent: float, side: float
) -> Work:
    # in: boxes, scores; out: box, score, label, and a count
    moved = boxes * (BOX + classes * F32) + results * (BOX + F32 + I64) + I64
    # every score is compared with the threshold; NMS of classes with the most candidates allowed
    tests = classes * pair_tests(candidates, extent, side, iou=0.55)
    return Work(name, moved, boxes * classes + tests * NMS_TEST, launches=2)


def box_iou(name: str, n: int, m: int) -> Work:
    return Work(name, (n + m) * BOX + n * m * F32, n * m * IOU, launches=1)


def box_iou_backward(name: str, n: int, m: int) -> Work:
    # rows, then columns: each reads the whole gradient; both sides' gradients out
    moved = 2 * ((n + m) * BOX + n * m * F32) + (n + m) * BOX
    return Work(name, moved, 2 * n * m * (AREA + IOU_GRADIENT), launches=2)


def giou_and_gradient(name: str, pairs: int) -> Work:
    # two boxes in, one number out; two boxes and a number in, two boxes out
    moved = pairs * (2 * BOX + F32) + pairs * (2 * BOX + F32 + 2 * BOX)
    return Work(name, moved, pairs * (4 * AREA + GIOU + GIOU_GRADIENT), launches=2)


def match_boxes(name: str, gts: int, anchors: int) -> Work:
    # in: box; out: index and IoU, and a flag per anchor
    moved = gts * (BOX + I64 + F32) + anchors * (BOX + I64 + F32 + FLAG)
    return Work(name, moved, gts * anchors * MATCH_TEST, launches=3)


def decode_boxes(name: str, boxes: int) -> Work:
    # delta and anchor in, box out
    return Work(name, boxes * 3 * BOX, boxes * DECODE, launches=1)


def decode_dense(name: str, images: int, anchors: int, height: int, width: int) -> Work:
    boxes = images * anchors * height * width
    # deltas in, boxes out; anchors are computed: the cell's position (2 operations) and four sums
    return Work(name, boxes * 2 * BOX, boxes * (DECODE + 6), launches=1)


def roi_align(
    name: str,
    rois: int,
    channels: int,
    maps: list[tuple[int, int, int]],  # images, height, width
    element: int = F32,
    bins: int = 7,
    ratio: int = 2,
    backward: bool = False,
) -> Work:
    # whole maps, although regions don't touch all of them
    pixels = channels * sum(images * height * width for images, height, width in maps)
    pooled = rois * channels * bins**2
    moved = (pixels + pooled) * element + rois * 5 * F32
    # two pixels per sample: taps per bin and axis; forward reduces rows first, then a column
    taps = 2 * ratio
    multiply_adds = taps**2 + (0 if backward else taps)
    return Work(name, moved, pooled * 2 * multiply_adds, launches=1)


def works() -> Iterator[Work]:
    yield nms("nms 1,000 boxes", 1_000)
    yield nms("nms 10,000 boxes", 10_000)
    yield nms("nms 100,000 uniform in 4,000 x 4,000", 100_000, extent=4000)
    yield nms("batched_nms 10,000 boxes, 80 classes", 10_000, classes=80)
    yield soft_nms("soft_nms 1,000 boxes, linear", 1_000)
    yield multiclass_nms(  # without the background's scores
        "multiclass_nms SSDLite's 3,234 anchors x 91 classes",
        3_234, 90, candidates=300, results=300, extent=320, side=158,
    )  # fmt: skip
    yield box_iou("box_iou 4,096 x 4,096", 4096, 4096)
    yield box_iou_backward("box_iou backward, 4,096 x 4,096", 4096, 4096)
    yield giou_and_gradient("giou loss and gradient, 200,000 pairs", 200_000)
    yield match_boxes("match_boxes 100 x 200,000", 100, 200_000)
    yield decode_boxes("decode_boxes 200,000", 200_000)
    yield decode_dense("decode_dense an RPN's 2 x 9 x 50 x 68", 2, 9, 50, 68)
    one, four = [(2, 200, 272)], [(2, 200 >> level, 272 >> level) for level in range(4)]
    yield roi_align("roi_align 1,000 RoIs, NCHW", 1_000, 256, one)
    yield roi_align("roi_align 1,000 RoIs, channels-last", 1_000, 256, one)
    yield roi_align("roi_align 1,000 RoIs, channels-last, float16", 1_000, 256, one, F16)
    yield roi_align("roi_align backward, 1,000 RoIs, NCHW", 1_000, 256, one, backward=True)
    yield roi_align("multiscale_roi_align 1,000 RoIs, 4 levels", 1_000, 256, four)


def table() -> Iterator[str]:
    heads = ["work", "MB", "Mflop", "launches", *(f"{m.name}, µs" for m in MACHINES)]
    yield f"| {' | '.join(heads)} |"
    yield "|---|" + "---:|" * (len(heads) - 1)
    for work in works():
        millions = [f"{count / 1e6:,.2f}" for count in (work.bytes, work.operations)]
        times = [f"{work.microseconds(machine):,.2f}" for machine in MACHINES]
        yield f"| {' | '.join([work.name, *millions, str(work.launches), *times])} |"


if __name__ == "__main__":
    print(*table(), sep="\n")
