from dataclasses import replace

import pytest
import torch

from detcore.data import DataError, Digits, load
from detcore.data.dota_writer import write_dota_set
from tests.data.test_dota import LABELS, line, write


def same(one, other):
    """The same pictures and targets under the same names, in whatever order."""
    at, there = ({data.record(k).file_name: k for k in range(len(data))} for data in (one, other))
    assert sorted(at) == sorted(there)
    for name, k in at.items():
        (image, target), (again, told) = one[k], other[there[name]]
        assert torch.equal(image, again)
        assert torch.equal(target["boxes"], told["boxes"])
        assert [one.classes[i - 1] for i in target["labels"]] == [
            other.classes[i - 1] for i in told["labels"]
        ]


def test_tiles_are_read_back_with_their_targets(tmp_path):
    write(tmp_path / "set", {"P1": LABELS, "P2": line("ship", "1")})
    tiles = load(tmp_path / "set", "all", oriented=True, tile=100)
    assert any(tiles.record(k).iscrowd.any() for k in range(len(tiles)))  # which are left out
    write_dota_set(tiles, tmp_path / "new" / "tiles")
    again = load(tmp_path / "new" / "tiles", "all", oriented=True)
    assert again.classes == tiles.classes
    same(tiles, again)
    difficult = next(r for r in again.records if r.file_name == "P2_0_0.png")
    assert difficult.ignore.tolist() == [True]


def test_any_oriented_set_is_written(tmp_path):
    data = load("digits", "val", length=4, oriented=True)
    write_dota_set(data, tmp_path / "digits")
    again = load(f"dota:{tmp_path / 'digits'}", "all", oriented=True)
    same(data, again)


def test_what_can_not_be_written(tmp_path):
    with pytest.raises(DataError, match=r"load this one with oriented=True"):
        write_dota_set(load("digits", "val", length=1), tmp_path)
    data = load("digits", "val", length=1, oriented=True)
    write_dota_set(data, tmp_path / "a")
    with pytest.raises(DataError, match=r"a: it holds labelTxt/ already; give a new folder"):
        write_dota_set(data, tmp_path / "a")
    data.record = lambda index: replace(Digits.record(data, index), file_name="d/a.png")
    data.length = 2
    with pytest.raises(DataError, match=r"two pictures would be d_a.png"):
        write_dota_set(data, tmp_path / "b")
    data.classes[3] = "number three"
    with pytest.raises(DataError, match=r"no class names with spaces, got 'number three'"):
        write_dota_set(data, tmp_path / "b")
