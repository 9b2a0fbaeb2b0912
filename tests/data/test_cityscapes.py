import json

import pytest
from PIL import Image

from detcore.data import Cityscapes, DataError, load
from detcore.data.faults import Faults, Kind, NoSplit
from detcore.data.readers.cityscapes import CLASSES

# the keys and order of a gtFine file; pictures are 2048 x 1024
DOCUMENT = {
    "imgHeight": 1024,
    "imgWidth": 2048,
    "objects": [
        {"label": "road", "polygon": [[0, 769], [290, 574], [2047, 1023]]},
        {"label": "car", "polygon": [[100, 400], [160, 380], [220, 410], [210, 470]]},
        {"label": "cargroup", "polygon": [[500, 400], [640, 400], [640, 450]]},
        {"label": "person", "polygon": [[-3, 300], [40, 300], [40, 420]]},
        {"label": "persongroup", "polygon": [[900, 300], [960, 300], [960, 420]]},
        {"label": "caravan", "polygon": [[1, 1], [9, 1], [9, 9]]},
        {"label": "bicycle", "polygon": [[1, 1], [9, 1], [9, 9]], "deleted": 1},
    ],
}


def write(root, split, city, number, document=DOCUMENT):
    stem = f"{city}_000000_{number:06d}"
    for kind, name in (("gtFine", "gtFine_polygons.json"), ("leftImg8bit", "leftImg8bit.png")):
        (root / kind / split / city).mkdir(parents=True, exist_ok=True)
        path = root / kind / split / city / f"{stem}_{name}"
        if kind == "gtFine":
            path.write_text(json.dumps(document))
        else:
            Image.new("RGB", (2048, 1024)).save(path)
    return root / "gtFine" / split / city / f"{stem}_gtFine_polygons.json"


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "train", "aachen", 19)
    write(tmp_path, "train", "bochum", 313)
    write(tmp_path, "val", "lindau", 1)
    return tmp_path


def test_boxes_of_polygons_and_groups_as_crowds(root):
    data = load(root)
    assert isinstance(data, Cityscapes)
    assert data.classes == list(CLASSES)
    assert [p.parent.name for p in data.paths] == ["aachen", "bochum"]
    record = data.record(0)
    assert record.file_name == "aachen_000000_000019_leftImg8bit.png"
    assert [data.classes[k - 1] for k in record.labels] == ["car", "car", "person", "person"]
    assert record.iscrowd.tolist() == [False, True, False, True]
    assert record.boxes.tolist() == [
        [100, 380, 220, 470],
        [500, 400, 640, 450],
        [-3, 300, 40, 420],
        [900, 300, 960, 420],
    ]
    image, target = data[0]
    assert image.shape == (3, 1024, 2048)
    assert target["boxes"].tolist() == [[100, 380, 220, 470], [0, 300, 40, 420]]


def test_splits_and_own_classes(root):
    assert (len(load(root, "val")), len(load(f"cityscapes:{root}", "all"))) == (1, 3)
    with pytest.raises(NoSplit, match=r"gtFine: no split 'test' \(there are train, val\)"):
        load(root, "test")
    data = load(root, "val", classes=["caravan"])
    assert data.record(0).labels.tolist() == [1]


def test_what_is_wrong_is_named(root):
    file = write(root, "train", "aachen", 20)
    (root / "leftImg8bit/train/bochum/bochum_000000_000313_leftImg8bit.png").unlink()
    for text, words, kind in (
        ("", "not readable as JSON", Kind.ANNOTATIONS),
        ('{"imgWidth": 3}', "not of Cityscapes' form .*imgHeight", Kind.ANNOTATIONS),
        (
            '{"imgWidth": 9, "imgHeight": 9, "objects": [{"label": "car", "polygon": []}]}',
            r"car has polygon \[\]",
            Kind.NOT_FINITE,
        ),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=rf"000020_gtFine_polygons.json: {words}"):
            load(root)
        faults = Faults(tolerant=True)
        load(root, faults=faults)
        assert [f.kind for f in faults if f.kind != Kind.SIZE] == [kind, Kind.MISSING]
    with pytest.raises(DataError, match=r"no folder gtFine"):
        load(f"cityscapes:{root / 'gtFine'}")
