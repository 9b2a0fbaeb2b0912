"""KITTI's rules, one by one, with values worked out by hand."""

import json
import math

import pytest

from detcore.data.readers.kitti_labels import LABEL
from detcore.evaluation.kitti_metrics import FIGURES, kitti_metrics, recall_thresholds
from detcore.utils.errors import UsageError
from tests.helpers import plain_kitti
from tests.helpers.kitti import class_row, found, measure, objects, thing
from tests.helpers.plain_kitti import LEVELS


def curve(labels, results, figure="AP_2d", name="Car", level="moderate"):
    """The first values of a curve, up to the last that is not 0."""
    values = class_row(measure(labels, results), name)["curves"][figure][level]
    while values and values[-1] == 0:
        values.pop()
    return values


# --- one rule each, by hand -----------------------------------------------------------------------
def test_means_of_40_recalls_leave_out_recall_0_and_11_take_it():
    """Five objects are five recalls: 1 to 5 fifths, at the places of 0, 1/40, ... 4/40."""
    labels, results = [[thing(k) for k in range(5)]], [[found(k) for k in range(5)]]
    row = class_row(measure(labels, results))
    assert row["curves"]["AP_2d"]["easy"] == [1.0] * 5 + [0.0] * 36
    for figure in FIGURES:
        assert row[figure]["easy"] == pytest.approx(4 / 40)
    row = class_row(measure(labels, results, points=11))
    assert row["AP_2d"]["easy"] == pytest.approx(2 / 11)  # places 0 and 4


def test_a_false_one_in_front_of_the_third_object():
    """Scores 0.9, 0.8, (0.7 on nothing), 0.6, 0.5: precision 1, 1, 3/4, then 4/5 is higher."""
    labels = [[thing(k) for k in range(4)]]
    results = [[found(0, 0.9), found(1, 0.8), found(9, 0.7), found(2, 0.6), found(3, 0.5)]]
    assert curve(labels, results) == pytest.approx([1, 1, 4 / 5, 4 / 5])
    row = class_row(measure(labels, results))
    assert row["AP_2d"]["hard"] == pytest.approx((1 + 4 / 5 + 4 / 5) / 40)


def test_41_objects_that_are_all_found_give_1():
    many = [[[f(k)] for k in range(41)] for f in (thing, found)]
    for points in (40, 11):
        row = class_row(measure(*many, points=points))
        assert {row[f][level] for f in FIGURES for level in LEVELS} == {1.0}


def test_recalls_are_sought_by_the_nearest():
    """Of 80, every second one is at a recall of 1/40, 2/40, ...; the first stands for 0."""
    scores = [1 - k / 100 for k in range(80)]
    chosen = [0, *range(1, 80, 2)]
    assert recall_thresholds(reversed(scores), 80) == [scores[k] for k in chosen]
    # three of ten objects were found: 1/10 is nearer to 0 than 2/10, and so on
    assert recall_thresholds([0.5, 0.7, 0.6], 10) == [0.7, 0.6, 0.5]
    # of 200, recall 1/40 lies between the 4th, 4/200 and the 6th: the 5th is it
    assert recall_thresholds([9, 8, 7, 6, 5, 4], 200) == [9, 5, 4]


def test_recalls_that_are_as_near_go_by_the_devkits_own_rounding():
    """Where two recalls are equally near, the sum of 1/40 in float64 decides."""
    for count in range(1, 400):
        for share in (1, 2, 3):
            scores = [1 - k / count for k in range(max(1, count // share))]
            assert recall_thresholds(scores, count) == plain_kitti.thresholds_of(scores, count)


@pytest.mark.parametrize(
    ("changes", "easy", "moderate", "hard"),
    [
        # an object must be higher than 40, 25 and 25 pixels
        ([{"bottom": 100 + h} for h in (41, 40, 26, 25, 24)], 1, 3, 3),
        ([{"occluded": k} for k in (0, 1, 2, 3)], 1, 2, 3),
        ([{"truncated": k} for k in (0.15, 0.16, 0.3, 0.31, 0.5, 0.51)], 1, 3, 5),
    ],
)
def test_levels_by_height_occlusion_and_truncation(changes, easy, moderate, hard):
    """What isn't asked for is neutral: found or not, it is neither right nor wrong."""
    labels = [[thing(k, **change) for k, change in enumerate(changes)]]
    results = [[found(k, **change) for k, change in enumerate(changes)]]
    row = class_row(measure(labels, results))
    assert row["objects"] == {"easy": easy, "moderate": moderate, "hard": hard}
    for level, count in row["objects"].items():
        assert row["curves"]["AP_3d"][level] == [1.0] * count + [0.0] * (41 - count)


@pytest.mark.parametrize(
    ("name", "beside", "precision"),
    [
        ("Car", "Van", 1),
        ("Car", "van", 1),
        ("Car", "Truck", 1 / 2),
        ("Car", "Pedestrian", 1 / 2),
        ("Pedestrian", "Person_sitting", 1),
        ("Pedestrian", "Van", 1 / 2),
        ("Cyclist", "Pedestrian", 1 / 2),
    ],
)
@pytest.mark.parametrize("figure", ["AP_2d", "AP_bev", "AP_3d"])
def test_a_class_beside_another_is_neutral(name, beside, precision, figure):
    """One object, found at 0.8; a surer detection of its class lies on something else."""
    labels = [[thing(0, type=name), thing(1, type=beside)]]
    results = [[found(0, 0.8, type=name), found(1, 0.9, type=name)]]
    assert curve(labels, results, figure, name) == pytest.approx([precision])


def test_a_neutral_object_takes_one_detection():
    labels = [[thing(0), thing(1, type="Van")]]
    results = [[found(0, 0.7), found(1, 0.9), found(1, 0.8)]]
    assert curve(labels, results) == pytest.approx([1 / 2])


def region(share):
    """A DontCare region over the given share of the car at place 1."""
    unknown = dict.fromkeys(("h", "w", "l"), -1) | dict.fromkeys(("x", "y", "z"), -1000)
    unknown |= {"truncated": -1, "occluded": -1, "alpha": -10, "rotation_y": -10}
    return thing(1, type="DontCare", **unknown) | {"right": 400 + 100 * share}


@pytest.mark.parametrize(
    ("figure", "share", "precision"),
    [
        ("AP_2d", 1, 1),
        ("AP_2d", 0.71, 1),
        ("AP_2d", 0.69, 1 / 2),
        ("AP_bev", 1, 1 / 2),
        ("AP_3d", 1, 1 / 2),
        ("AOS", 1, 1),
    ],
)
def test_regions_forgive_in_the_picture_alone_by_the_detections_own_area(figure, share, precision):
    labels = [[thing(0), region(share)]]
    results = [[found(0, 0.8), found(1, 0.9)]]
    assert curve(labels, results, figure) == pytest.approx([precision])
    # of any number: all that lie in it are forgiven
    results[0] += [found(1, 0.85)]
    shown = 1 if precision == 1 else 3
    assert curve(labels, results, figure) == pytest.approx([1 / shown])


@pytest.mark.parametrize(("share", "precision"), [(0.51, 1), (0.5, 1 / 2)])
def test_more_than_half_of_a_pedestrian_in_a_region_is_enough(share, precision):
    labels = [[thing(0, type="Pedestrian"), region(share)]]
    results = [[found(0, 0.8, type="Pedestrian"), found(1, 0.9, type="Pedestrian")]]
    assert curve(labels, results, name="Pedestrian") == [precision]


@pytest.mark.parametrize(
    ("height", "easy", "moderate"),
    [(24.9, 1, 1), (25, 1, 1 / 2), (39.9, 1, 1 / 2), (40, 1 / 2, 1 / 2)],
)
@pytest.mark.parametrize("figure", ["AP_2d", "AP_bev", "AP_3d"])
def test_detections_that_are_too_low_are_not_wrong(figure, height, easy, moderate):
    results = [[found(0, 0.8), found(1, 0.9, bottom=100 + height)]]
    for level, precision in (("easy", easy), ("moderate", moderate), ("hard", moderate)):
        assert curve([[thing(0)]], results, figure, level=level) == pytest.approx([precision])


def test_an_object_that_a_low_detection_finds_is_neither_found_nor_missed():
    """Of two objects 26 pixels high, one is found by a detection of 24, the other by one of 26.

    The lower one is surer: it takes its object in the first pass. In the second, 0.5 is the only
    threshold. A detection of another class does the same, since the height is looked at first.
    """
    labels = [[thing(0, bottom=126), thing(1, bottom=126)]]
    for kind in ("Car", "Cyclist"):
        results = [[found(0, 0.9, bottom=124, type=kind), found(1, 0.5, bottom=126)]]
        assert curve(labels, results) == [1]
        # beside it a less sure high one, which has its turn in the second pass alone
        results[0].insert(1, found(0, 0.8, bottom=126))
        assert curve(labels, results) == [1]
        results[0][0]["score"] = 0.7  # now the high one is the surest
        assert curve(labels, results) == [1, 1]


def test_a_high_detection_goes_before_a_low_one_that_is_nearer():
    """An object is 26 high: a low one has IoU 24 / 26, two high ones have less and are surer.

    The surest, 30 high, gives the threshold 0.9. At the other object's, 0.3, the nearer high one
    is taken and the surest is wrong: 2 of 3. Two low ones alone are the first one's.
    """
    low = {"top": 100, "bottom": 124}
    labels = [[thing(0, bottom=126), thing(1, bottom=126)]]
    high = [found(0, 0.9, bottom=130), found(0, 0.8, bottom=129)]
    for row in ([found(0, 0.5, **low), *high], [*high, found(0, 0.5, **low)]):
        results = [[*row, found(1, 0.3, bottom=126)]]
        assert curve(labels, results) == pytest.approx([1, 2 / 3])


def test_a_detection_is_of_one_object():
    """Two objects share all but 10 of 100 columns, and one detection lies on both: IoU 0.8 and 1.

    The first object takes it, the second is missed; a third one is found at 0.5.
    """
    labels = [[thing(0), thing(0, left=110, right=210), thing(2)]]
    results = [[found(0, 0.9, left=110, right=210), found(2, 0.5)]]
    assert curve(labels, results) == [1, 1]
    # a less sure one on the second object is right; without the first rule it would be wrong
    results[0].append(found(0, 0.7, left=110, right=210))
    assert curve(labels, results) == [1, 1, 1]


def test_an_object_found_twice_is_found_once():
    """Scores 0.9 and 0.8 on the first, 0.7 on the second object: at 0.7 one of three is wrong."""
    labels = [[thing(0), thing(1)]]
    results = [[found(0, 0.9), found(0, 0.8), found(1, 0.7)]]
    for figure in FIGURES:
        assert curve(labels, results, figure) == pytest.approx([1, 2 / 3])


def test_the_surest_gives_the_threshold_and_the_nearest_is_counted():
    """The surer of two on an object looks the wrong way and has IoU 0.8; the other is exact.

    At 0.9 it is alone: orientation 0. At 0.5 the exact one is taken, the surer one is wrong, and
    the second object's is right: (1 + 1) / 3, and the highest from there on stands for 0.9 too.
    """
    labels = [[thing(0), thing(1)]]
    results = [[found(0, 0.9, right=180, alpha=math.pi), found(0, 0.6), found(1, 0.5)]]
    assert curve(labels, results) == pytest.approx([1, 2 / 3])
    assert curve(labels, results, "AOS") == pytest.approx([2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("error", "similarity"),
    [(0, 1), (math.pi / 3, 3 / 4), (-math.pi / 2, 1 / 2), (math.pi, 0), (2 * math.pi, 1)],
)
def test_orientation_by_the_cosine_of_the_error(error, similarity):
    labels = [[thing(k, alpha=0.4) for k in range(3)]]
    results = [[found(k, alpha=0.4 + error) for k in range(3)]]
    row = class_row(measure(labels, results))
    assert row["curves"]["AOS"]["easy"][:3] == pytest.approx([similarity] * 3)
    assert row["AOS"]["easy"] == pytest.approx(similarity * 2 / 40)
    assert row["AP_2d"]["easy"] == pytest.approx(2 / 40)


@pytest.mark.parametrize(
    ("name", "width", "precision"),
    [
        # widths of 100 pixels: the IoU is width / 100, and must be exceeded
        ("Car", 71, [1]),
        ("Car", 69, []),
        ("Pedestrian", 69, [1]),
        ("Pedestrian", 50, []),
        ("Cyclist", 51, [1]),
        ("Cyclist", 49, []),
    ],
)
def test_the_overlap_of_each_class(name, width, precision):
    labels = [[thing(type=name)]]
    results = [[found(type=name, right=100 + width)]]
    assert curve(labels, results, name=name) == precision
    results = [[found(type=name, l=4 * width / 100)]]  # shorter at both ends
    assert curve(labels, results, "AP_bev", name=name) == precision
    assert curve(labels, results, "AP_3d", name=name) == precision


def test_a_height_in_space_counts_in_3d_alone():
    """Half a metre of two: IoU in space 1.5 / 2.5 = 0.6, from above 1; a quarter: 1.75 / 2.25."""
    for offset, of_3d in ((0.5, []), (0.25, [1])):
        results = [[found(y=1.5 + offset)]]
        assert curve([[thing()]], results, "AP_bev") == [1]
        assert curve([[thing()]], results, "AP_3d") == of_3d
        assert curve([[thing()]], results, "AP_2d") == [1]


def test_a_car_across_the_road_is_none_along_it():
    """From above 2 x 2 of 4 x 2 + 4 x 2 - 2 x 2 square metres: 1/3; half a turn changes nothing."""
    for turn, of_bev in ((math.pi / 2, []), (math.pi, [1])):
        assert curve([[thing()]], [[found(rotation_y=turn)]], "AP_bev") == of_bev


# --- where nothing is measured --------------------------------------------------------------------
def test_results_without_boxes_in_space_have_figures_of_the_picture_alone():
    nowhere = {"h": -1, "w": -1, "l": -1, "x": -1000, "y": -1000, "z": -1000, "rotation_y": -10}
    figures = measure([[thing(0), thing(1)]], [[found(0, **nowhere), found(1, **nowhere)]])
    row = class_row(figures)
    assert row["AP_2d"]["easy"] == row["AOS"]["easy"] == pytest.approx(1 / 40)
    assert row["AP_bev"] == row["AP_3d"] == dict.fromkeys(LEVELS)
    assert row["curves"]["AP_3d"] == dict.fromkeys(LEVELS)
    words = "Car: in all results x is -1000 and y is -1000, so there is no AP_bev and AP_3d"
    assert words in figures["notes"]
    # by the devkit's rule one box is enough, and the others are then wrong
    figures = measure([[thing(0), thing(1)]], [[found(0, 0.5), found(1, **nowhere)]])
    assert class_row(figures)["curves"]["AP_3d"]["easy"][:2] == [1 / 2, 0]


def test_results_without_boxes_in_the_picture_are_too_low_everywhere():
    figures = measure([[thing()]], [[found(left=-1, top=-1, right=-1, bottom=-1)]])
    row = class_row(figures)
    assert row["AP_2d"] == row["AOS"] == dict.fromkeys(LEVELS)
    assert row["AP_3d"] == dict.fromkeys(LEVELS, 0.0)
    words = "Car: in all results left is negative, so there is no AP_2d and AOS"
    assert words in figures["notes"]
    assert any("no result is 25 pixels high in the picture" in n for n in figures["notes"])


def test_one_detection_without_an_angle_ends_orientation():
    figures = measure([[thing()], []], [[found()], [found(), found(type="Van", alpha=-10)]])
    assert class_row(figures)["AOS"] == dict.fromkeys(LEVELS)
    assert class_row(figures)["AP_2d"]["easy"] is not None
    words = "000001.txt: line 2 has alpha -10, which is no angle, so there is no AOS"
    assert words in figures["notes"]


def test_classes_without_results_and_without_objects():
    figures = measure([[thing(), thing(1, type="Cyclist")]], [[found(), found(type="Pedestrian")]])
    assert class_row(figures, "Cyclist")["AP_2d"] == dict.fromkeys(LEVELS)
    assert class_row(figures, "Pedestrian")["AP_2d"] == dict.fromkeys(LEVELS)
    assert "Cyclist: not among the results, so it is not measured" in figures["notes"]
    assert "Pedestrian: no object that any level asks for" in figures["notes"]
    words = "Car: with so few objects no figure can be above 0 (easy, 1 object), 0 (moderate, 1"
    assert any(note.startswith(words) for note in figures["notes"])
    empty = measure([[], [thing()]], [[], []])
    assert all(row[f]["easy"] is None for row in empty["per_class"] for f in FIGURES)


def test_numbers_beyond_all_bounds_are_no_overlap():
    huge = [found(alpha=1e308, x=1e308), found(1, left=-1e308, right=1e308), found(2, l=1e308)]
    figures = measure([[thing(k, alpha=-1e308) for k in range(3)]], [huge])
    json.dumps(figures, allow_nan=False)
    assert class_row(figures)["AP_3d"]["easy"] == pytest.approx(0)


def test_arguments_that_do_not_go_together():
    with pytest.raises(UsageError, match=r"points must be 40 or 11, got 12"):
        measure([], [], points=12)
    with pytest.raises(UsageError, match=r"results must be of 2 pictures as labels, got 1"):
        measure([[], []], [[]])
    label = objects([thing()], LABEL)
    with pytest.raises(UsageError, match=r"000000.txt was read without all 16 columns"):
        kitti_metrics([label], [label])
