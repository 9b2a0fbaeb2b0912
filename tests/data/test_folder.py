import pytest
import torch
from PIL import Image

from detcore.data import DataError, Folder, load


def fill(root, classes=("cat", "dog"), count=12):
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (12, 8), (k * 200, i, 0)).save(root / name / f"{i}.png")


def test_a_folder_a_class(tmp_path):
    fill(tmp_path)
    data = load(tmp_path, "all")
    assert isinstance(data, Folder)
    assert data.classes == ["cat", "dog"]
    assert len(data) == 24
    image, target = data[23]
    assert image.shape == (3, 8, 12)
    assert image[0, 0, 0] == 200
    assert target["label"].item() == 1
    assert target["label"].dtype == torch.int64


def test_without_splits_a_hash_shares_out(tmp_path):
    fill(tmp_path)
    files = [{path for _, path, _ in load(tmp_path, s).samples} for s in ("train", "val")]
    assert not files[0] & files[1]
    assert len(files[0] | files[1]) == 24
    assert files[1]
    with pytest.raises(DataError, match=r"train, val or all .* got 'test'"):
        load(tmp_path, "test")


def test_split_folders(tmp_path):
    fill(tmp_path / "train", count=3)
    fill(tmp_path / "valid", count=2)
    assert (len(load(tmp_path, "train")), len(load(tmp_path, "val"))) == (6, 4)
    with pytest.raises(DataError, match=r"no split 'test' .*train, valid.*--split train"):
        load(tmp_path, "test")


def test_a_class_called_test_is_a_class(tmp_path):
    fill(tmp_path, classes=("cat", "test"))
    assert load(tmp_path, "all").classes == ["cat", "test"]


def test_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"no such data .*'digits', a COCO .json"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"looked for a COCO .json .* VOC .xml .* folders of pict"):
        load(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"wanted a COCO .json, a YOLO .yaml, a .csv"):
        load(tmp_path / "a.txt")
