import pytest

from detcore.data import DataError, load
from detcore.data.loading.registry import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_named_set_that_is_not_there(tmp_path, name):
    with pytest.raises(DataError, match=rf"nix: no such file or folder \({name}: was asked for"):
        load(f"{name}:{tmp_path / 'nix'}")
    with pytest.raises(DataError, match=rf"{tmp_path}"):
        load(f"{name}:{tmp_path}")


def test_what_can_be_given_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no such data .*NAME:PATH with one of coco, voc, yolo,"):
        load(f"pascal:{tmp_path}")


def test_a_path_may_have_a_colon(tmp_path):
    from tests.data.test_folder import fill

    (tmp_path / "c:x").mkdir()
    fill(tmp_path / "c:x")
    assert len(load(tmp_path / "c:x", "all")) == 24
    assert load(f"folder:{tmp_path / 'c:x'}", "all").classes == ["cat", "dog"]
