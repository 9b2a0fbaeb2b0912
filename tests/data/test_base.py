import numpy as np

from detcore.data import Record


def test_a_target_has_no_crowd_and_nothing_outside():
    record = Record(
        5,
        "a.jpg",
        20,
        10,
        boxes=np.array([[-3, 1, 5, 5], [25, 1, 30, 4], [0, 0, 20, 10], [1, 1, 1 + 1e-9, 5]]),
        labels=np.array([1, 2, 3, 4]),
        area=np.array([1.0, 2, 3, 4]),
        iscrowd=np.array([False, False, True, False]),
        ignore=np.zeros(4, bool),
    )
    target = record.target()
    assert target["boxes"].tolist() == [[0, 1, 5, 5]]
    assert target["labels"].tolist() == [1]
    assert target["area"].tolist() == [1]
    assert record.boxes[0, 0] == -3
