"""All cases, a file a stem: each has cases(), which yields them. A new file is named in STEMS."""

from collections.abc import Iterator
from importlib import import_module

from ..case import Case

STEMS = (
    "nms",
    "soft_nms",
    "multiclass_nms",
    "box_iou",
    "paired_box_iou",
    "match_boxes",
    "box_codec",
    "decode_dense",
    "roi_align",
    "multiscale_roi_align",
)


def cases(op: str | None = None) -> Iterator[Case]:
    """All cases, or those of one op. Inputs are not made yet."""
    for stem in STEMS:
        for case in import_module(f"{__name__}.{stem}").cases():
            if op in (None, case.op):
                yield case
