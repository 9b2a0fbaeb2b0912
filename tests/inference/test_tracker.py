import pytest
import torch

from detcore.inference.tracker import NOBODY, Tracker


def frame(*rows):
    """Squares of 20 pixels of class 1, from rows of x, y and an optional score or label."""
    boxes = [[x, y, x + 20, y + 20] for x, y, *_ in rows]
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor([r[2] if len(r) > 2 else 0.9 for r in rows]),
        "labels": torch.tensor([r[3] if len(r) > 3 else 1 for r in rows], dtype=torch.int64),
    }


def numbers(tracker, *rows):
    return tracker.update(frame(*rows)).tolist()


def test_a_steady_object_keeps_its_number_whatever_the_order_of_detections():
    tracker = Tracker()
    assert numbers(tracker, (0, 0), (100, 0)) == [1, 2]
    assert numbers(tracker, (102, 0), (2, 0)) == [2, 1]
    assert numbers(tracker, (4, 0), (104, 0), (50, 50)) == [1, 2, 3]


def test_fast_objects_are_followed_where_their_motion_leads():
    # 12 pixels per frame: the IoU between frames is 8/32; it begins slowly
    tracker = Tracker()
    positions, x = [], 0.0
    for k in range(12):
        x += min(12, 4 + 2 * k)
        positions.append(x)
    assert [numbers(tracker, (x, 0)) for x in positions] == [[1]] * 12
    # without a known motion it is a new track, because the IoU is below 0.3
    still = Tracker()
    assert numbers(still, (0, 0)) == [1]
    assert numbers(still, (12, 0)) == [2]


def test_two_that_cross_keep_their_numbers():
    tracker = Tracker()
    seen = []
    for k in range(21):
        left, right = (5.0 * k, 0), (100 - 5.0 * k, 4)
        # the detector's order changes on the way
        pair = [left, right] if k % 3 else [right, left]
        found = numbers(tracker, *pair)
        seen.append(found if k % 3 else found[::-1])
    assert all(pair == seen[0] for pair in seen)
    assert sorted(seen[0]) == [1, 2]


def test_two_that_cross_and_are_one_box_meanwhile():
    tracker = Tracker()
    for k in range(21):
        left, right = (5.0 * k, 0), (100 - 5.0 * k, 4)
        if abs(left[0] - right[0]) < 10:
            numbers(tracker, left)  # NMS leaves one of them
        else:
            assert numbers(tracker, left, right) == [1, 2]


def test_one_that_disappears_for_some_frames_is_known_again():
    tracker = Tracker(patience=4)
    for k in range(5):
        assert numbers(tracker, (6.0 * k, 0)) == [1]
    for _ in range(4):
        assert numbers(tracker) == []
    # 30 pixels further, where its motion leads
    assert numbers(tracker, (6.0 * 9, 0)) == [1]
    for _ in range(5):
        numbers(tracker)
    assert numbers(tracker, (6.0 * 15, 0)) == [2]


def test_no_patience_at_all():
    tracker = Tracker(patience=0)
    assert numbers(tracker, (0, 0)) == [1]
    assert numbers(tracker) == []
    assert numbers(tracker, (0, 0)) == [2]


def test_numbers_are_not_used_again():
    tracker = Tracker(patience=1)
    assert numbers(tracker, (0, 0), (200, 0)) == [1, 2]
    for _ in range(3):
        assert numbers(tracker, (0, 0)) == [1]
    assert numbers(tracker, (0, 0), (200, 0)) == [1, 3]


def test_unsure_detections_continue_a_track_and_start_none():
    tracker = Tracker(start=0.5)
    assert numbers(tracker, (0, 0, 0.9), (100, 0, 0.4)) == [1, NOBODY]
    assert numbers(tracker, (1, 0, 0.2), (100, 0, 0.4)) == [1, NOBODY]
    # the sure detection is matched first, although the unsure one fits better
    assert numbers(tracker, (2, 0, 0.3), (6, 0, 0.8)) == [NOBODY, 1]
    # an unsure detection does not bring back a lost track
    numbers(tracker)
    assert numbers(tracker, (8, 0, 0.3)) == [NOBODY]


def test_classes_do_not_mix():
    tracker = Tracker()
    assert numbers(tracker, (0, 0, 0.9, 1)) == [1]
    assert numbers(tracker, (0, 0, 0.9, 2)) == [2]
    assert numbers(tracker, (0, 0, 0.9, 2), (0, 0, 0.9, 1)) == [2, 1]


def test_the_sum_of_overlaps_decides_and_not_the_first_choice():
    tracker = Tracker(iou=0.2)
    assert numbers(tracker, (0, 0), (10, 0)) == [1, 2]
    # the first is nearest to track 2, but only track 2 can take the second
    assert numbers(tracker, (6, 0), (20, 0)) == [1, 2]


def test_an_empty_first_frame_and_wrong_arguments():
    assert numbers(Tracker()) == []
    for arguments, words in (
        ({"iou": 0.0}, "iou must be above 0 and at most 1, got 0.0"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=words):
            Tracker(**arguments)


def test_boxes_that_are_not_numbers_are_new_and_harmless():
    tracker = Tracker()
    assert numbers(tracker, (0, 0)) == [1]
    assert numbers(tracker, (float("nan"), 0), (0, 0)) == [2, 1]
    assert numbers(tracker, (0, 0)) == [1]
