import pytest

from detcore.evaluation.coco_metrics import operating_point
from detcore.evaluation.error_analysis import confusion_matrix, errors_by_kind, mistakes_of, worst
from detcore.evaluation.matching import FORGIVEN, WRONG, match_images
from tests.helpers.documents import FAR, A, B, found, truth

THIRD = [20, 10, 20, 20]  # IoU 1/3 with A


def kinds(document, rows):
    match = match_images(document, rows)[0]
    one = mistakes_of(match)
    return one.kinds, one.missed.tolist()


@pytest.mark.parametrize(
    ("category", "box", "kind", "missed"),
    [
        (5, A, None, False),
        (5, THIRD, "location", False),
        (10, A, "class", False),
        (10, THIRD, "both", True),
        (5, FAR, "background", True),
        (10, FAR, "background", True),
        (5, [28, 10, 20, 20], "background", True),  # IoU 1/19, below 0.1
    ],
)
def test_each_kind_alone(category, box, kind, missed):
    assert kinds(truth((1, 5, A)), found((1, category, box, 0.9))) == ([kind], [missed])


def test_a_second_one_is_a_duplicate():
    rows = found((1, 5, A, 0.9), (1, 5, [11, 10, 20, 20], 0.8))
    assert kinds(truth((1, 5, A)), rows) == ([None, "duplicate"], [False])


def test_location_is_asked_after_before_class_and_class_before_duplicate():
    document = truth((1, 5, A), (1, 10, THIRD))
    # the box of y at A has IoU 1/3 with its own class, and 1 with the other
    assert kinds(document, found((1, 10, A, 0.9))) == (["location"], [True, False])
    document = truth((1, 5, A), (1, 10, A))
    rows = found((1, 5, A, 0.9), (1, 5, A, 0.8))
    assert kinds(document, rows) == ([None, "class"], [False, False])


def test_images_without_objects_or_detections():
    assert kinds(truth(), found((1, 5, A, 0.9))) == (["background"], [])
    assert kinds(truth((1, 5, A)), []) == ([], [True])


def test_crowds_are_forgiven_and_nobodys_error():
    document = truth((1, 5, [0, 0, 60, 60], {"iscrowd": 1}), (1, 5, B))
    match = match_images(document, found((1, 5, A, 0.9), (1, 10, A, 0.8), (1, 5, B, 0.7)))[0]
    # a crowd of another class excuses nothing
    assert match.partner.tolist() == [FORGIVEN, WRONG, 0]
    assert mistakes_of(match).kinds == [None, "background", None]
    table = confusion_matrix([match], document["categories"])["matrix"]
    assert table == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_counts_by_kind_and_class():
    document = truth((1, 5, A), (1, 10, B), (2, 10, A))
    rows = found((1, 10, A, 0.9), (1, 5, FAR, 0.8), (1, 5, FAR, 0.7), (2, 10, A, 0.9))
    mistakes = [mistakes_of(m) for m in match_images(document, rows)]
    errors = errors_by_kind(mistakes, document["categories"])
    wanted = {"location": 0, "class": 1, "duplicate": 0, "background": 2, "both": 0, "missed": 1}
    assert errors["counts"] == wanted
    first, second = errors["per_class"]
    assert (first["background"], first["class"], first["missed"]) == (2, 0, 0)
    assert (second["background"], second["class"], second["missed"]) == (0, 1, 1)
    # every wrong detection has a kind
    point = operating_point(document, rows)
    assert sum(r["wrong"] for r in point["per_class"]) == 3


def test_confusion_by_hand():
    document = truth((1, 5, A), (1, 10, B), (2, 5, A))
    rows = found(
        (1, 10, A, 0.9),  # x predicted as y
        (1, 5, A, 0.3),  # also found, if its confidence is enough
        (2, 5, FAR, 0.8),  # background predicted as x, and x missed
    )
    categories = document["categories"]
    sure = confusion_matrix(match_images(document, rows, score=0.5), categories)
    assert sure["classes"] == ["x", "y", "background"]
    assert sure["matrix"] == [[0, 1, 1], [0, 0, 1], [1, 0, 0]]
    # with the unsure detection x is found, and the y there is a false positive on background
    every = confusion_matrix(match_images(document, rows), categories)
    assert every["matrix"] == [[1, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_one_object_is_taken_for_another_class_once():
    document = truth((1, 5, A), classes=("x", "y", "z"))
    rows = found((1, 10, A, 0.9), (1, 15, A, 0.8))
    table = confusion_matrix(match_images(document, rows), document["categories"])["matrix"]
    assert table == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_the_worst_come_first_and_the_faultless_not_at_all():
    document = truth((1, 5, A), (2, 5, A), (2, 5, B))
    document["images"].append({"id": 3, "width": 100, "height": 100})
    rows = found((1, 5, A, 0.9), (1, 5, FAR, 0.8), (2, 5, FAR, 0.6), (2, 5, A, 0.5))
    mistakes = [mistakes_of(m) for m in match_images(document, rows)]
    ranked = worst(mistakes, 5)
    assert [m.match.image_id for m in ranked] == [2, 1]
    assert [m.cost for m in ranked] == pytest.approx([1.6, 0.8])
    assert len(worst(mistakes, 1)) == 1
