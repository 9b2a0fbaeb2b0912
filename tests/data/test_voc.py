import pytest
import torch
from PIL import Image

from detcore.data import DataError, Voc, load

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object>"""


def annotate(root, stem, objects, size=(40, 30), folder="Annotations", pictures="JPEGImages"):
    for sub in (folder, pictures):
        (root / sub).mkdir(parents=True, exist_ok=True)
    body = "".join(
        OBJECT.format(name=n, box=b, difficult=d) for n, b, d in ((*o, 0)[:3] for o in objects)
    )
    text = (
        f"<annotation><filename>{stem}.jpg</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size>{body}</annotation>"
    )
    (root / folder / f"{stem}.xml").write_text(text)
    Image.new("RGB", size, (10, 200, 30)).save(root / pictures / f"{stem}.jpg")


def splits(root, **named):
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, stems in named.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(stems) + "\n")


@pytest.fixture
def devkit(tmp_path):
    annotate(tmp_path, "a", [("dog", (1, 2, 20, 22)), ("cat", (5, 5, 15, 9), 1)])
    annotate(tmp_path, "b", [("dog", (3, 4, 3, 4)), ("dog", (0, 0, 60, 20))])
    annotate(tmp_path, "c", [])
    splits(tmp_path, train=["a", "b"], val=["c"])
    return tmp_path


def test_reads_boxes_labels_and_splits(devkit):
    data = load(devkit, "train")
    assert isinstance(data, Voc)
    assert data.classes == ["cat", "dog"]
    assert len(data) == 2
    image, target = data[0]
    assert image.shape == (3, 30, 40)
    assert image.dtype == torch.uint8
    assert target["boxes"].tolist() == [[1, 2, 20, 22], [5, 5, 15, 9]]
    assert target["labels"].tolist() == [2, 1]
    val = load(devkit, "val")
    assert val.classes == ["cat", "dog"]  # although its only picture shows neither
    assert val[0][1]["boxes"].shape == (0, 4)
    with pytest.raises(DataError, match=r"no split 'test' .*train, val"):
        load(devkit, "test")


def test_zero_size_boxes_are_left_out_and_reported_once(devkit, caplog):
    data = load(devkit, "train")
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert "b.xml" in said[0]
    assert "no area" in said[0]
    assert data[1][1]["boxes"].tolist() == [[0, 0, 40, 20]]  # clipped to the picture
    data[1]
    assert len(caplog.records) == 1
    assert len(data.to_coco()["annotations"]) == 3


def test_boxes_outside_are_reported(tmp_path, caplog):
    annotate(tmp_path, "a", [("dog", (50, 2, 70, 22)), ("dog", (1, 2, 20, 22))])
    data = Voc(tmp_path, "all")
    assert "1 box outside" in caplog.text
    assert len(data[0][1]["boxes"]) == 1


def test_difficult_is_trained_on_and_ignored_in_evaluation(devkit):
    data = load(devkit, "train")
    assert [a["ignore"] for a in data.to_coco()["annotations"]] == [0, 1, 0]
    assert len(data[0][1]["labels"]) == 2


def test_one_based_coordinates(devkit):
    assert Voc(devkit, "train", one_based=True)[0][1]["boxes"][0].tolist() == [0, 1, 20, 22]


def test_classes_can_be_given(devkit):
    data = Voc(devkit, "train", classes=["dog", "bird", "cat"])
    assert data[0][1]["labels"].tolist() == [1, 3]
    with pytest.raises(
        DataError, match=r"a.xml: object 1 has class 'dog', which is not one of cat"
    ):
        Voc(devkit, "train", classes=["cat"])


def test_xml_beside_the_pictures_and_a_hashed_split(tmp_path):
    for k in range(40):
        annotate(tmp_path, f"p{k}", [("x", (1, 1, 9, 9))], folder=".", pictures=".")
    train, val = load(tmp_path, "train"), load(tmp_path, "val")
    names = [{p.name for p in d.paths} for d in (train, val)]
    assert len(names[0]) + len(names[1]) == 40
    assert not names[0] & names[1]
    assert 2 <= len(val) <= 14
    annotate(tmp_path, "new", [("x", (1, 1, 9, 9))], folder=".", pictures=".")
    later = {p.name for p in load(tmp_path, "val").paths}
    assert names[1] <= later  # a new file does not move the others


def test_one_folder_a_split(tmp_path):
    for split, stem in (("train", "a"), ("valid", "b")):
        annotate(tmp_path, stem, [("x", (1, 1, 9, 9))], folder=split, pictures=split)
    assert load(tmp_path, "val").paths[0].name == "b.jpg"
    with pytest.raises(DataError, match=r"no split 'test' .*train, valid"):
        load(tmp_path, "test")


def test_size_is_read_from_the_picture_where_xml_has_none(tmp_path):
    annotate(tmp_path, "a", [("x", (1, 1, 9, 9))], size=(40, 30))
    file = tmp_path / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<width>40</width>", ""))
    record = Voc(tmp_path, "all").record(0)
    assert (record.width, record.height) == (40, 30)


def test_missing_picture_is_reported_and_left_out(devkit, caplog):
    (devkit / "JPEGImages" / "a.jpg").unlink()
    assert len(load(devkit, "train")) == 1
    assert "a.xml: its picture is missing" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[:60], "malformed XML"),
        (lambda t: "<!DOCTYPE a [<!ENTITY b 'c'>]>" + t, "document type or entities"),
        (lambda t: t.replace("<xmin>1<", "<xmin>one<"), "<bndbox/xmin> must be a number"),
        (lambda t: t.replace("<xmin>1<", "<xmin>nan<"), "got 'nan'"),
        (lambda t: t.replace("<xmin>1</xmin>", ""), "no <bndbox/xmin>"),
        (lambda t: t.replace("annotation>", "html>"), "expected a VOC <annotation>, got <html>"),
    ],
)
def test_bad_xml_names_the_file(devkit, change, words):
    file = devkit / "Annotations" / "a.xml"
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=words) as caught:
        load(devkit, "train")
    assert str(file) in str(caught.value)


def test_names_without_annotation(devkit):
    (devkit / "ImageSets" / "Main" / "train.txt").write_text("a\nghost\n")
    with pytest.raises(DataError, match=r"train.txt: 1 of its names .* 'ghost'"):
        load(devkit, "train")


def test_real_blood_cells(shared, caplog):
    root = shared("data/bccd")
    sizes = {s: len(load(root, s)) for s in ("train", "val", "test")}
    assert sizes == {"train": 205, "val": 87, "test": 72}
    reported = [r.getMessage() for r in caplog.records]
    # each of the two faults of the set once, in the split that contains it
    assert len([m for m in reported if "00338" in m or "00343" in m]) == len(reported) == 2
    data = load(root, "train")
    assert data.classes == ["Platelets", "RBC", "WBC"]
    for i in (0, 100, 204):
        boxes = data[i][1]["boxes"]
        assert (boxes[:, 2:] > boxes[:, :2]).all()
