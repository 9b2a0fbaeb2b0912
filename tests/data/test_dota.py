import numpy as np
import pytest
import torch
from PIL import Image

from detcore.checkpoints.header import CheckpointInfo
from detcore.commands.model_data import data_for
from detcore.data import DataError, Dota, TiledDetection, load
from detcore.data.faults import Faults, Kind, NoSplit
from detcore.data.readers.dota import CLASSES
from detcore.data.readers.voc import Voc
from detcore.evaluation.coco_results import data_to_score

# as in DOTA's texts; version 1.5 and 2.0 have 2 for very difficult, others leave the flag out
LABELS = """imagesource:GoogleEarth
gsd:0.146343590398
40.0 20.0 80.0 20.0 80.0 40.0 40.0 40.0 ship 0
100.0 60.0 120.0 80.0 110.0 90.0 90.0 70.0 small-vehicle 1
10 10 20 10 20 20 10 20 plane 2
50 100 60 100 60 130 50 130 plane
"""


def write(base, texts, labels="labelTxt", size=(160, 140)):
    (base / labels).mkdir(parents=True, exist_ok=True)
    (base / "images").mkdir(exist_ok=True)
    for name, text in texts.items():
        (base / labels / f"{name}.txt").write_text(text)
        Image.new("RGB", size).save(base / "images" / f"{name}.png")
    return base


def names(data):
    return [path.name for path in data.paths]


def line(category, difficult="0", x=10):
    return f"{x} 10 {x + 10} 10 {x + 10} 20 {x} 20 {category} {difficult}\n"


def test_objects_flags_and_headers(tmp_path):
    data = load(write(tmp_path, {"P0001": LABELS}), "all", oriented=True)
    assert isinstance(data, Dota)
    assert data.oriented
    image, target = data[0]
    assert image.shape == (3, 140, 160)
    assert target["boxes"][0].tolist() == [60, 30, 40, 20, 0]
    # down to the right by 45 degrees, which is clockwise
    assert target["boxes"][1].tolist() == pytest.approx([105, 75, 800**0.5, 200**0.5, -45])
    assert [data.classes[k - 1] for k in target["labels"]] == [
        *("ship", "small-vehicle", "plane", "plane")
    ]
    rec = data.record(0)
    assert rec.corners[1].tolist() == [100, 60, 120, 80, 110, 90, 90, 70]
    assert rec.ignore.tolist() == [False, True, True, False]
    assert rec.extra == {"imagesource": "GoogleEarth", "gsd": "0.146343590398"}
    assert rec.area == pytest.approx([800, 400, 100, 300])
    truth = data.to_coco()["annotations"]
    assert [a["ignore"] for a in truth] == [0, 1, 1, 0]
    assert truth[1]["corners"] == rec.corners[1].tolist()


def test_upright_boxes_around_the_corners(tmp_path):
    data = load(write(tmp_path, {"P0001": LABELS}), "all")
    assert not data.oriented
    assert data.record(0).corners is None
    boxes = data[0][1]["boxes"]
    assert boxes[:2].tolist() == [[40, 20, 80, 40], [90, 60, 120, 90]]
    assert data.to_coco()["annotations"][1]["bbox"] == [90, 60, 30, 30]
    assert data.record(0).ignore.tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("there", "count"),
    [
        (["plane", "ship"], 15),
        (["plane", "container-crane"], 16),
        (["helipad"], 18),
        (["airport", "ship"], 18),
        ([], 15),
    ],
)
def test_the_classes_are_those_of_the_first_version_that_has_them(tmp_path, there, count):
    texts = {f"P{k}": line(name) for k, name in enumerate(there)} | {"empty": "gsd:null\n"}
    data = load(f"dota:{write(tmp_path, texts)}", "all")
    assert data.classes == list(CLASSES[:count])
    assert (CLASSES[0], CLASSES[14], CLASSES[15], CLASSES[17]) == (
        *("plane", "helicopter", "container-crane", "helipad"),
    )


def test_a_set_with_its_own_classes(tmp_path, caplog):
    data = load(write(tmp_path, {"a": line("ship") + line("barge")}), "all")
    assert data.classes == ["barge", "ship"]
    assert "in DOTA's form, with its own classes: barge, ship" in caplog.text


def test_folders_of_splits_have_the_same_classes(tmp_path):
    write(tmp_path / "train", {"P1": line("container-crane"), "P2": line("ship")})
    write(tmp_path / "val", {"P3": line("plane")})
    (tmp_path / "test" / "images").mkdir(parents=True)  # without texts, as DOTA's
    train, val = (load(tmp_path, s, oriented=True) for s in ("train", "val"))
    assert isinstance(train, TiledDetection)
    assert isinstance(val, Dota)
    assert train.classes == val.classes == list(CLASSES[:16])
    assert names(train.data) == ["P1.png", "P2.png"]
    assert names(val) == ["P3.png"]
    assert len(load(tmp_path, "all")) == 3
    with pytest.raises(NoSplit, match=r"no split 'test' \(there are train, val\)"):
        load(tmp_path, "test")


def test_without_folders_of_splits_a_fifth_is_held_out(tmp_path):
    write(tmp_path, {f"P{k:04d}": line("ship") for k in range(30)})
    train, val = load(tmp_path, "train"), load(tmp_path, "val")
    assert len(train.data) > 4 * len(val) / 2 > 0
    assert not set(names(train.data)) & set(names(val))
    assert len(train.data) + len(val) == 30


@pytest.mark.parametrize(
    "labels", ["labelTxt-v1.5/DOTA-v1.5_train", "labelTxt-v1.0/labelTxt", "annfiles"]
)
def test_where_archives_put_texts(tmp_path, labels):
    write(tmp_path, {"P1": line("ship")}, labels=labels)
    upright = ("labelTxt-v1.5/DOTA-v1.5_train_hbb", "labelTxt-v1.0/trainset_reclabelTxt")
    for folder in upright:
        write(tmp_path, {"P1": line("plane")}, labels=folder)
    assert load(tmp_path, "all").record(0).labels.tolist() == [CLASSES.index("ship") + 1]


def test_of_two_versions_the_last_is_read_and_said(tmp_path, caplog):
    for version, name in (("1.0", "ship"), ("1.5", "plane")):
        write(tmp_path, {"P1": line(name)}, labels=f"labelTxt-v{version}")
    assert load(tmp_path, "all").record(0).labels.tolist() == [1]
    assert "of its 2 folders of labels" in caplog.text
    assert "labelTxt-v1.5 is read" in caplog.text


def test_splits_below_one_folder_of_texts(tmp_path):
    for split, name in (("train", "ship"), ("val", "plane")):
        (tmp_path / "labelTxt" / split).mkdir(parents=True)
        (tmp_path / "labelTxt" / split / "P1.txt").write_text(line(name))
        (tmp_path / "images" / split).mkdir(parents=True)
        Image.new("RGB", (30 if split == "val" else 40, 30)).save(
            tmp_path / "images" / split / "P1.png"
        )
    val = load(tmp_path, "val")
    assert (val.size(0), val.record(0).labels.tolist()) == ((30, 30), [1])
    assert load(tmp_path, "train", tile=0).size(0) == (40, 30)


def test_pictures_at_any_depth_and_of_any_kind(tmp_path):
    write(tmp_path, {"P1": line("ship"), "P2": line("ship")})
    (tmp_path / "images" / "part1").mkdir()
    (tmp_path / "images" / "P1.png").rename(tmp_path / "images" / "part1" / "P1.png")
    Image.new("RGB", (50, 40)).save(tmp_path / "images" / "P2.jpg")
    (tmp_path / "images" / "P2.png").unlink()
    assert names(load(tmp_path, "all")) == ["P1.png", "P2.jpg"]


def test_pictures_that_are_missing_or_damaged_are_left_out(tmp_path, caplog):
    write(tmp_path, {f"P{k}": line("ship") for k in range(3)})
    (tmp_path / "images" / "P0.png").unlink()
    (tmp_path / "images" / "P1.png").write_bytes(b"")
    assert names(load(tmp_path, "all")) == ["P2.png"]
    assert "P0.png: picture is missing" in caplog.text
    assert "P1.png: not a readable picture" in caplog.text
    with pytest.raises(DataError, match=r"looked for labelTxt\*/ and annfiles/"):
        load(f"dota:{tmp_path / 'images'}")


@pytest.mark.parametrize(
    ("bad", "words", "kind"),
    [
        ("1 2 3 4 5 6 7 ship 0", "wanted x and y of four corners, a category", Kind.ENTRY),
        ("1 2 3 4 5 6 7 8", "wanted x and y of four corners", Kind.ENTRY),
        ("1 2 3 4 5 6 7 8 ship 3", "and 0, 1, 2 or nothing", Kind.ENTRY),
        ("1 2 3 4 5 6 7 8 ship 0 0", "wanted x and y", Kind.ENTRY),
        ("1 2 3 four 5 6 7 8 ship 0", "wanted x and y", Kind.ENTRY),
        ("1 2 3 nan 5 6 7 8 ship 0", "wanted finite numbers", Kind.NOT_FINITE),
        ("1 2 3 1e999 5 6 7 8 ship 0", "wanted finite numbers", Kind.NOT_FINITE),
    ],
)
def test_bad_lines_are_named(tmp_path, bad, words, kind):
    write(tmp_path, {"P1": f"gsd:1\n{bad}\n{line('ship')}"})
    with pytest.raises(DataError, match=rf"P1.txt: line 2 is .*{words}"):
        load(tmp_path, "all")
    faults = Faults(tolerant=True)
    assert len(load(tmp_path, "all", faults=faults).record(0).boxes) == 1
    assert [f.kind for f in faults] == [kind]


def test_objects_without_area_are_left_out(tmp_path, caplog):
    flat = "0.1 0.1 0.2 0.2 0.3 0.3 0.7 0.7 ship 0\n5 5 5 5 5 5 5 5 ship 0\n"
    write(tmp_path, {"P1": flat + line("ship") + "1e300 0 1e301 0 1e301 9 1e300 9 ship 0\n"})
    assert len(load(tmp_path, "all", oriented=True).record(0).boxes) == 1
    assert caplog.text.count("without area; left out") == 3
    assert "P1.txt: line 4 is '1e300 0" in caplog.text


def scene(tmp_path):
    """A picture of 2,000 by 1,300 pixels, whose colours say where they are."""
    across, down = np.meshgrid(np.arange(2000) // 8, np.arange(1300) // 8)
    pixels = np.stack([across, down, np.zeros_like(down)], -1).astype(np.uint8)
    # seven tenths of this one are left of 1,024, and a part of it right of 976
    text = "954 100 1054 100 1054 120 954 120 ship 0\n" + line("plane", x=1500)
    write(tmp_path / "train", {"P1": text})
    Image.fromarray(pixels).save(tmp_path / "train" / "images" / "P1.png")
    return pixels


def test_training_pictures_are_cut_into_tiles(tmp_path):
    pixels = scene(tmp_path)
    data = load(tmp_path, "train", oriented=True)
    # 976 = 2,000 - 1,024 and 276 = 1,300 - 1,024, by rows
    corners = [(x0, y0) for _, (x0, y0, _, _) in data.places]
    assert corners == [(0, 0), (488, 0), (976, 0), (0, 276), (488, 276), (976, 276)]
    for k, (x0, y0) in enumerate(corners):
        image, _ = data[k]
        wanted = torch.from_numpy(pixels[y0 : y0 + 1024, x0 : x0 + 1024]).permute(2, 0, 1)
        assert torch.equal(image, wanted)
    boxes = [data[k][1]["boxes"].tolist() for k in range(3)]
    assert boxes[0] == [[1004, 110, 100, 20, 0]]  # it ends at 1,054, whole in the target
    assert boxes[1] == [[1004 - 488, 110, 100, 20, 0], [1505 - 488, 15, 10, 10, 0]]
    assert boxes[2] == [[1004 - 976, 110, 100, 20, 0], [1505 - 976, 15, 10, 10, 0]]
    assert [len(load(tmp_path, "train", tile=0)), len(load(tmp_path, "all"))] == [1, 1]
    assert len(load(tmp_path, "train", tile=2000)) == 1
    # 512 pixels overlap by 200: 6 steps of 248 and more across, 4 down
    assert len(load(tmp_path, "all", tile=512)) == 6 * 4


def test_results_are_held_against_whole_pictures(tmp_path):
    scene(tmp_path)
    assert len(data_to_score(f"dota:{tmp_path}", "train", oriented=True)) == 1
    info = CheckpointInfo({"oriented": True}, ["ship"])
    assert isinstance(data_for(info, f"dota:{tmp_path}", "train", None), Dota)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_pictures_of_13000_pixels_a_side_are_read(tmp_path):
    write(tmp_path / "train", {"P1": line("ship")})
    # of one bit a pixel, so that the file and the test are small
    picture = Image.new("1", (13_000, 13_000))
    picture.putpixel((12_999, 12_998), 1)
    picture.save(tmp_path / "train" / "images" / "P1.png")
    data = load(tmp_path, "train")
    assert len(data) == 16 * 16
    last = data.image(255)
    assert last.shape == (3, 1024, 1024)
    assert last.float().sum() == 3 * 255 and last[0, 1022, 1023] == 255


def test_a_tile_of_a_turned_picture_is_cut_from_it_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    noise = Image.effect_noise((90, 60), 80).convert("RGB")
    (tmp_path / "train" / "images").mkdir(parents=True)
    noise.save(tmp_path / "train" / "images" / "P1.png", exif=exif)
    (tmp_path / "train" / "labelTxt").mkdir()
    (tmp_path / "train" / "labelTxt" / "P1.txt").write_text(line("ship"))
    whole = load(tmp_path, "train", tile=0)
    assert whole.size(0) == (60, 90)
    tiled = load(tmp_path, "train", tile=50)
    for k, (_, (x0, y0, x1, y1)) in enumerate(tiled.places):
        assert torch.equal(tiled.image(k), whole.image(0)[:, y0:y1, x0:x1])


def test_a_set_in_a_folder_further_down_and_beside_others(tmp_path, caplog):
    write(tmp_path / "DOTA-v1.0" / "train", {"P1": line("ship")})
    assert isinstance(load(tmp_path, "all"), Dota)
    assert "read as dota:" in caplog.text
    # VOC's form goes before it, where both are in one folder
    write(tmp_path / "both", {"P1": line("ship")})
    (tmp_path / "both" / "P1.xml").write_text(
        "<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>"
    )
    Image.new("RGB", (20, 20)).save(tmp_path / "both" / "P1.png")
    assert isinstance(load(tmp_path / "both", "all"), Voc)
    assert isinstance(load(f"dota:{tmp_path / 'both'}", "all"), Dota)
