import time

import pytest

from detcore.engine.bench import Case, cases, interleave, measure


def test_interleaved_medians_tell_fast_from_slow() -> None:
    result = interleave(
        {"detcore": lambda: time.sleep(0.002), "torchvision": lambda: time.sleep(0.01)}, budget=0.1
    )
    assert 3 < result.ratio("torchvision") < 7


def test_a_different_result_is_an_error() -> None:
    case = Case("op", "work", lambda: 1, {"rival": lambda: 2}, lambda a, b: a == b)
    with pytest.raises(AssertionError, match="work: result differs from rival's"):
        measure(case)


@pytest.mark.parametrize(
    "op",
    [
        "nms",
        "batched_nms",
        "box_iou",
        "match_boxes",
        "paired_box_iou",
        "box_codec",
        "decode_dense",
        "roi_align",
        "soft_nms",
    ],
)
def test_every_case_agrees_with_its_rivals(op: str) -> None:
    found = [case for case in cases(op) if case.quick]
    assert found
    for case in found:
        case.verify()
