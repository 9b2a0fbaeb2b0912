import json

import pytest
import torch
from PIL import Image

from detcore.data import DataError, MultiLabel, load
from detcore.data.faults import Faults, Kind, NoSplit

LISTED = "file,labels\na.jpg,dog;cat\nb.jpg,\nc.jpg,dog\n"
COLUMNS = "file,cat,dog\na.jpg,1,1\nb.jpg,0,0\nc.jpg,0,1\n"
JSON = {
    "classes": ["cat", "dog"],
    "images": [
        {"file": "a.jpg", "labels": ["dog", "cat"]},
        {"file": "b.jpg", "labels": []},
        {"file": "c.jpg", "labels": ["dog"]},
    ],
}
FORMS = {
    "listed.csv": LISTED,
    "tags.csv": LISTED.replace("file,labels", "Image,Tags"),
    "bars.csv": LISTED.replace(";", " | "),
    "commas.csv": LISTED.replace("dog;cat", '"dog,cat"'),
    "columns.csv": COLUMNS,
    "all.json": json.dumps(JSON),
    "marked.json": "\ufeff" + json.dumps(JSON),
}


@pytest.fixture
def folder(tmp_path):
    for name in "abc":
        Image.new("RGB", (8, 6)).save(tmp_path / f"{name}.jpg")
    return tmp_path


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("prefix", ["", "multilabel:"])
def test_all_forms_say_the_same(folder, name, prefix):
    (folder / name).write_text(FORMS[name])
    data = load(f"{prefix}{folder / name}")
    assert isinstance(data, MultiLabel)
    assert data.multilabel
    assert data.classes == ["cat", "dog"]
    targets = [data[i][1] for i in range(3)]
    assert [t["labels"].tolist() for t in targets] == [[1, 1], [0, 0], [0, 1]]
    assert [t["image_id"] for t in targets] == [1, 2, 3]
    assert targets[0]["labels"].dtype == torch.int64
    assert data[0][0].shape == (3, 6, 8)
    assert data.size(0) == (8, 6)


def test_a_column_of_splits(folder):
    (folder / "a.csv").write_text("file,split,labels\na.jpg,train,cat\nb.jpg,val,\nc.jpg,train,dog")
    assert len(load(folder / "a.csv")) == 2
    val = load(folder / "a.csv", "val")
    assert [p.name for p in (val.path(0),)] == ["b.jpg"]
    assert val.classes == ["cat", "dog"]  # from all splits
    with pytest.raises(NoSplit, match=r"split 'test' \(there are train, val\)"):
        load(folder / "a.csv", "test")


def test_a_folder_with_a_file_a_split_or_a_single_one(folder):
    (folder / "val.csv").write_text("file,cat,dog\nb.jpg,0,1\n")
    (folder / "train.csv").write_text(COLUMNS)
    assert [len(load(f"multilabel:{folder}", s)) for s in ("train", "val")] == [3, 1]
    with pytest.raises(NoSplit, match=r"no label file for split 'test' \(there are train, val"):
        load(f"multilabel:{folder}", "test")
    (folder / "val.csv").unlink()
    (folder / "train.csv").unlink()
    (folder / "labels.csv").write_text(
        "file,cat\n" + "".join(f"{k}.jpg,{k % 2}\n" for k in range(30))
    )
    (folder / "images").mkdir()
    for k in range(30):
        Image.new("RGB", (8, 6)).save(folder / "images" / f"{k}.jpg")
    sides = [load(f"multilabel:{folder}", s) for s in ("train", "val")]
    names = [{d.path(i).name for i in range(len(d))} for d in sides]
    assert len(names[0]) > len(names[1]) > 0
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 30


@pytest.mark.parametrize("name", FORMS)
def test_a_folder_of_pictures_with_their_labels_is_no_folder_of_classes(tmp_path, name):
    for place in ("images", "."):
        root = tmp_path / place.replace(".", "flat")
        (root / place).mkdir(parents=True)
        (root / "more").mkdir(exist_ok=True)
        for file in ("a.jpg", "b.jpg", "c.jpg", "more/d.jpg"):
            Image.new("RGB", (8, 6)).save(root / (place if file[0] != "m" else ".") / file)
        (root / name).write_text(FORMS[name])
        data = load(root, "all")
        assert isinstance(data, MultiLabel)
        assert data.classes == ["cat", "dog"]
        assert len(data) == 3


def test_folders_of_classes_stay_what_they_are_beside_a_table(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / name / "1.jpg")
    (tmp_path / "labels.csv").write_text("file,labels\ncat/1.jpg,cat\ndog/1.jpg,dog\n")
    (tmp_path / "log.csv").write_text("epoch,loss\n1,0.5\n")
    assert not load(tmp_path, "all").multilabel


def test_a_name_keeps_its_spaces_and_what_does_not_separate(folder):
    (folder / "a.csv").write_text('file,labels\na.jpg,"hot dog; cat, big"\nb.jpg,hot dog\n')
    assert load(folder / "a.csv").classes == ["cat, big", "hot dog"]
    (folder / "a.csv").write_text('file,labels\na.jpg,"hot dog|cat, big"\nb.jpg,hot dog\n')
    assert load(folder / "a.csv").classes == ["cat, big", "hot dog"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "wanted a header: 'file' and one of 'labels' or 'label' or 'tags', or"),
        ("a.csv", "image,kinds\na.jpg,cat\n", "row 1 has 'cat', wanted 0 or 1 .* column 'labels'"),
        ("a.csv", "a.jpg,cat\nb.jpg,dog\n", "wanted a header"),
        ("a.csv", "file,cat,dog\na.jpg,1\n", "row 1 has 2 columns, the header 3"),
        ("a.csv", "file,cat,dog\na.jpg,1,2\n", "row 1 has '2', wanted 0 or 1"),
        ("a.json", '{"classes": ["cat"], "images": [{"file": "a.jpg"}]}', "image 1 is .* wanted"),
        (
            "a.json",
            '{"classes": ["cat"], "images": [{"file": "a.jpg", "labels": ["cow"]}]}',
            "a.jpg has label 'cow'",
        ),
        ("a.csv", "file,split\na.jpg,train\n", "it has no classes"),
        ("a.json", "{", "not readable as JSON"),
        ("a.json", '{"classes": []}', "no list 'images', wanted .*file"),
        ("a.csv", "file,labels\nnix.jpg,cat\n", "none of the 1 pictures is in"),
        (
            "a.csv",
            "file,labels,split\nnix.jpg,cat,train\n",
            "none of the 1 pictures of split 'train' is in",
        ),
    ],
)
def test_bad_files_are_named(folder, name, content, words):
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        load(f"multilabel:{folder / name}")
    assert str(folder / name) in str(caught.value)


def test_all_faults_at_once(folder, caplog):
    (folder / "a.csv").write_text(COLUMNS + "x.jpg,1,0\nb.jpg,7,0\nb.jpg,1\n")
    faults = Faults(tolerant=True)
    assert len(load(folder / "a.csv", faults=faults)) == 3
    assert [f.kind for f in faults] == [Kind.ENTRY, Kind.ENTRY, Kind.MISSING]
    assert not caplog.records
    (folder / "a.csv").write_text(COLUMNS + "x.jpg,1,0\n")
    load(folder / "a.csv")
    assert "x.jpg: picture is missing; left out" in caplog.text
