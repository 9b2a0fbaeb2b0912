import numpy as np
import pytest
from PIL import Image

from detcore.data import DataError, OpenImages, load
from detcore.data.faults import Faults, Kind, NoSplit

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)
# rows as in V4's train-annotations-bbox.csv
ROWS = """000002b66c9c498e,xclick,/m/01g317,1,0.012500,0.195312,0.148438,0.587500,0,1,0,0,0
000002b66c9c498e,xclick,/m/0k4j,1,0.5,0.75,0.25,1,0,0,1,0,0
000002b97e5471a0,xclick,/m/0k4j,1,0.1,0.2,0.3,0.4,0,0,0,0,0
ffffe2b97e5471a0,xclick,/m/0k4j,1,0.1,0.2,0.3,0.4,0,0,0,0,0
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "class-descriptions-boxable.csv").write_text(
        "/m/011k07,Tortoise\n/m/01g317,Person\n/m/0k4j,Car\n"
    )
    (tmp_path / "train-annotations-bbox.csv").write_text(HEADER + ROWS)
    (tmp_path / "train").mkdir()
    for name in ("000002b66c9c498e", "000002b97e5471a0"):
        Image.new("RGB", (640, 320)).save(tmp_path / "train" / f"{name}.jpg")
    return tmp_path


def test_shares_become_pixels_and_groups_crowds(root):
    data = load(root)
    assert isinstance(data, OpenImages)
    assert data.classes == ["Tortoise", "Person", "Car"]
    assert len(data) == 2
    record = data.record(0)
    assert (record.file_name, record.width, record.height) == ("000002b66c9c498e.jpg", 640, 320)
    wanted = np.array([[8, 47.50016, 124.99968, 188], [320, 80, 480, 320]])
    assert record.boxes == pytest.approx(wanted)
    assert record.labels.tolist() == [2, 3]
    assert record.iscrowd.tolist() == [False, True]
    image, target = data[0]
    assert image.shape == (3, 320, 640)
    assert target["labels"].tolist() == [2]
    crowds = [a for a in data.to_coco()["annotations"] if a["iscrowd"]]
    assert [a["bbox"] for a in crowds] == [[320, 80, 160, 240]]


def test_images_that_are_not_there_are_counted_in_one_line(root, caplog):
    load(root)
    assert len(caplog.records) == 1
    assert "1 of its images aren't here, the first is ffffe2b97e5471a0.jpg" in caplog.text


def test_some_classes_alone(root):
    data = OpenImages(root, classes=["Car"])
    assert [data.record(i).labels.tolist() for i in range(2)] == [[1], [1]]
    with pytest.raises(DataError, match=r"no class 'Cat' here"):
        OpenImages(root, classes=["Cat"])


def test_names_of_later_versions(root):
    (root / "csv").mkdir()
    (root / "class-descriptions-boxable.csv").unlink()
    (root / "csv" / "oidv7-class-descriptions-boxable.csv").write_text(
        "LabelName,DisplayName\n/m/01g317,Person\n/m/0k4j,Car\n"
    )
    (root / "csv" / "validation-annotations-bbox.csv").write_text(HEADER + ROWS)
    (root / "train").rename(root / "validation")
    assert load(f"openimages:{root}", "val").classes == ["Person", "Car"]
    assert len(load(root, "val")) == 2


def test_what_is_wrong_is_named(root):
    with pytest.raises(NoSplit, match=r"for split 'test' \(there are train-annotations-bbox.csv"):
        load(root, "test")
    file = root / "train-annotations-bbox.csv"
    file.write_text(HEADER + ROWS.replace("0.012500", "nan"))
    with pytest.raises(DataError, match=r"000002b66c9c498e has a box from \(nan, 0.148438\)"):
        load(root)
    file.write_text(HEADER + ROWS.replace("/m/01g317", "/m/nix"))
    with pytest.raises(DataError, match=r"has class '/m/nix'"):
        load(root)
    faults = Faults(tolerant=True)
    file.write_text(HEADER + ROWS.replace("/m/01g317", "/m/nix").replace("0.5,0.75", "0.75,0.5"))
    (root / "train" / "000002b97e5471a0.jpg").write_bytes(b"")
    data = load(root, faults=faults)
    assert len(data) == 1
    left_out = [Kind.PARTIAL, Kind.NO_AREA, Kind.UNREADABLE, Kind.NO_BOXES]
    kinds = [Kind.UNKNOWN_CLASS, *left_out]
    assert [f.kind for f in faults] == kinds
    file.write_text(ROWS)
    with pytest.raises(DataError, match=r"it has no column ImageID"):
        load(root)
    (root / "class-descriptions-boxable.csv").unlink()
    with pytest.raises(DataError, match=r"no class-descriptions-boxable.csv here"):
        load(f"openimages:{root}")
