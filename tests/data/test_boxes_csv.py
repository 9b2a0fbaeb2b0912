import pytest
from PIL import Image

from detcore.data import BoxesCsv, DataError, load
from detcore.data.faults import Faults, Kind, NoSplit

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
ROWS = """a.jpg,40,30,dog,1,2,11,10
b.jpg,40,30,cat,4,4,9,9
a.jpg,40,30,cat,20,10,44,20
c.jpg,40,30,,,,,
"""


def write(root, text=HEADER + ROWS, name="boxes.csv", pictures="."):
    for file in ("a.jpg", "b.jpg", "c.jpg"):
        (root / pictures).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(root / pictures / file)
    (root / name).write_text(text)
    return root / name


@pytest.mark.parametrize("pictures", [".", "images"])
@pytest.mark.parametrize("prefix", ["", "csv:"])
def test_a_file_is_taken_whole(tmp_path, pictures, prefix):
    data = load(f"{prefix}{write(tmp_path, pictures=pictures)}")
    assert isinstance(data, BoxesCsv)
    assert data.whole
    assert data.classes == ["cat", "dog"]
    assert [p.name for p in data.paths] == ["a.jpg", "b.jpg", "c.jpg"]
    target = data[0][1]
    assert target["boxes"].tolist() == [[1, 2, 11, 10], [20, 10, 40, 20]]
    assert target["labels"].tolist() == [2, 1]
    assert data.record(0).boxes[1].tolist() == [20, 10, 44, 20]
    assert [i["id"] for i in data.to_coco()["images"]] == [1, 2, 3]
    assert len(data[2][1]["boxes"]) == 0


def test_columns_in_another_order_and_no_size(tmp_path):
    text = "\ufeffClass, xmax,ymax,xmin,ymin,filename\ndog,11,10,1,2,a.jpg\n"
    data = load(write(tmp_path, text))
    assert data.record(0).boxes.tolist() == [[1, 2, 11, 10]]
    assert data.size(0) == (40, 30)
    Image.new("RGB", (50, 60)).save(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text(HEADER + "a.jpg,0,x,dog,1,2,11,10\n")
    assert load(tmp_path / "boxes.csv").size(0) == (50, 60)


def test_a_folder_a_split_as_roboflow_leaves_it(tmp_path):
    write(tmp_path / "train", name="_annotations.csv")
    write(tmp_path / "valid", HEADER + "b.jpg,40,30,owl,4,4,9,9\n", "_annotations.csv")
    data = load(tmp_path, "val")
    assert data.classes == ["cat", "dog", "owl"]  # from all splits
    assert data[0][1]["labels"].tolist() == [3]
    assert len(load(tmp_path)) == 3
    assert [r.image_id for r in load(tmp_path, "all").records] == [1, 2, 3, 4]
    with pytest.raises(NoSplit, match=r"no CSV file for split 'test' \(there are train, val\)"):
        load(tmp_path, "test")


def test_a_single_file_in_a_folder_is_shared_out(tmp_path):
    rows = "".join(f"{k}.jpg,40,30,cat,4,4,9,9\n" for k in range(30))
    write(tmp_path, HEADER + rows)
    for k in range(30):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{k}.jpg")
    sides = [{p.name for p in load(tmp_path, s).paths} for s in ("train", "val")]
    assert len(sides[0]) > len(sides[1]) > 0
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == len(load(tmp_path, "all")) == 30


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER, "it has no row under its header"),
        ("filename,class\na.jpg,cat\n", "it has no column 'xmin'"),
        (HEADER + "a.jpg,40,30,cat,1,2,x,4\n", "line 2 has the box .1, 2, x, 4., wanted four num"),
        (HEADER + ROWS + "a.jpg,40,30,cat,1\n", "line 6 has the box .1, , , ., wanted four num"),
        (HEADER + "a.jpg,40,30,cat,1,2,nan,4\n", "line 2 .* wanted finite numbers"),
        (HEADER + "a.jpg,40,30,,1,2,3,4\n", "line 2 has class '', which is not one of"),
        (HEADER + "nix.jpg,40,30,cat,1,2,3,4\n", "pictures were not found, the first is nix.jpg"),
    ],
)
def test_bad_files_are_named(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=words) as caught:
        load(f"csv:{path}")
    assert str(path) in str(caught.value)


def test_what_is_left_out(tmp_path, caplog):
    path = write(tmp_path, HEADER + ROWS + "a.jpg,40,30,cat,5,5,5,9\nnix.jpg,40,30,cat,1,1,9,9\n")
    assert len(load(path)) == 3
    assert f"{path}: line 6 has the box (5, 5, 5, 9) without area; left out" in caplog.text
    assert "nix.jpg: picture is missing; left out" in caplog.text
    faults = Faults(tolerant=True)
    path.write_text(path.read_text() + "b.jpg,40,30,cat,inf,1,9,9\nb.jpg,40,30,cat,a,1,9,9\n")
    assert len(load(path, faults=faults)) == 3
    kinds = [Kind.NO_AREA, Kind.NOT_FINITE, Kind.ENTRY, Kind.MISSING]
    assert [f.kind for f in faults] == kinds
    with pytest.raises(DataError, match=r"line 4 has class 'cat', which is not one of dog"):
        BoxesCsv(write(tmp_path), classes=["dog"])
