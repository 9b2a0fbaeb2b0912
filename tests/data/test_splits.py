"""The selection of a split: one rule for all readers."""

from pathlib import Path

import pytest

from detcore.data.faults import NoSplit
from detcore.data.splits import hashed_split, part, split_folders, split_of

NAMES = [f"{k}.jpg" for k in range(100)]
HERE = Path("set")


def taken(own, split, **options):
    return part(own, split, HERE, name_of=str, **options)


@pytest.mark.parametrize(
    ("name", "split"),
    [("Training", "train"), ("VALID", "val"), ("validation", "val"), ("Testing", "test")],
)
def test_names_that_people_use(name, split):
    assert split_of(name) == split
    assert split_of("bus") is None


def test_a_part_of_its_own_counts_whole():
    own = {"Train": ["a"], "valid": ["b", "c"], "fold1": ["d"]}
    assert taken(own, "train") == ["a"]
    assert taken(own, "val") == ["b", "c"]
    assert taken(own, "fold1") == ["d"]
    assert taken(own, "all") == ["a", "b", "c", "d"]
    with pytest.raises(NoSplit, match=r"no split 'test' \(there are Train, valid, fold1\)"):
        taken(own, "test")


@pytest.mark.parametrize("name", ["train", "trainval"])
def test_without_a_part_for_validation_a_share_of_training_is(name, caplog):
    own = {name: NAMES, "test": ["t.jpg"]}
    train, val = (taken(own, s, val_share=0.2) for s in ("train", "val"))
    assert sorted(train + val) == sorted(NAMES)
    assert 10 < len(val) < 30
    assert f"set: no pictures set apart for validation; val is {len(val)} of 100" in caplog.text
    assert taken(own, "test") == ["t.jpg"]
    assert len(taken(own, "val", val_share=0.5)) > 35
    if name == "train":  # a split of its own is not divided by default
        assert taken(own, "train") == NAMES
        with pytest.raises(NoSplit):
            taken(own, "val")
    # data only for evaluation, and training with other validation data
    assert taken(own, "train", val_share=0) == NAMES
    with pytest.raises(NoSplit, match=r"no split 'val' .*--split"):
        taken(own, "val", val_share=1)


def test_one_list_of_everything_is_not_divided():
    own = {"default": NAMES}
    assert len(taken(own, "train")) + len(taken(own, "val")) == 100
    assert taken(own, "val", val_share=1) == NAMES
    assert taken(own, "default") == NAMES


def test_a_share_hangs_on_the_name_alone():
    val = hashed_split(NAMES, "val", HERE)
    assert hashed_split(NAMES[:50], "val", HERE) == [n for n in NAMES[:50] if n in val]
    assert hashed_split(NAMES, "val", HERE, 1) == NAMES
    wider = hashed_split(NAMES, "val", HERE, 0.4)
    assert set(val) < set(wider)
    assert hashed_split(["M\udcfcller.jpg"], "train", HERE)


def test_only_a_set_of_splits_has_splits(tmp_path):
    for name in ("Train", "Val", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    assert {s: f.name for s, f in split_folders(tmp_path).items()} == {
        "train": "Train",
        "val": "Val",
    }
    (tmp_path / "bus").mkdir()
    assert split_folders(tmp_path) == {}
