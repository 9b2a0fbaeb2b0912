"""The program to profile: python -m benchmarks.gpu.workload WORK... calls each case's op once."""

import sys
from collections.abc import Iterator

import torch

from detcore.bench import cases
from detcore.bench.case import Case, Function, on_device

# used if there are no figures: one case per interesting kernel
DEFAULT = (
    "nms 10,000 boxes",
    "nms 1,000 boxes",
    "batched_nms 10,000 boxes, 80 classes",
    "multiclass_nms SSDLite's 3,234 anchors x 91 classes",
    "soft_nms 1,000 boxes, linear",
    "match_boxes 100 x 200,000",
    "box_iou 4,096 x 4,096, out=",
    "roi_align 1,000 RoIs, NCHW",
    "roi_align 1,000 RoIs, channels-last",
    "roi_align backward, 1,000 RoIs, NCHW",
    "multiscale_roi_align 1,000 RoIs, 4 levels",
    "decode_boxes 200,000",
)


def prepared(works: list[str], device: str) -> Iterator[tuple[str, Function]]:
    """Our function of each case, already called twice to initialize everything."""
    by_work: dict[str, Case] = {case.work: case for case in cases()}
    for work in works:
        case = by_work[work]
        function = case.ours.prepare(*on_device(case, device))
        function(), function()
        yield work, function


def main() -> None:
    for _, function in prepared(sys.argv[1:], "cuda"):
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        function()
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
