"""Data sets through `detcore train` and `eval`: damaged pictures, several labels, augmentation."""

import json

import pytest
import torch
from PIL import Image

from tests.commands.test_cli import SMALL, call

TINY = ["--option", "neck_channels=16", "--option", "head_width=16"]


def coco(root, split, count, damaged=()):
    (root / split).mkdir(parents=True)
    images, annotations = [], []
    for k in range(count):
        name = f"{k}.jpg"
        size = (64, 48) if k % 2 else (48, 64)
        Image.effect_noise(size, 80).convert("RGB").save(root / split / name)
        if k in damaged:
            path = root / split / name
            path.write_bytes(path.read_bytes()[:-200])
        images.append({"id": k + 1, "file_name": name, "width": size[0], "height": size[1]})
        annotations.append(
            {"id": k + 1, "image_id": k + 1, "category_id": 1, "bbox": [4, 4, 30, 30]}
        )
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / f"{split}.json").write_text(json.dumps(document))


def test_damaged_pictures_do_not_end_a_run(tmp_path):
    coco(tmp_path / "data", "train", 24, damaged=(5,))
    coco(tmp_path / "data", "val", 22, damaged=(0,))
    common = ["--model", "yolo", "--data", tmp_path / "data", "--epochs", 2, *SMALL, *TINY]
    text = call("train", "--out", tmp_path / "run", *common)
    assert "5.jpg: not a readable picture" in text
    assert "1 of 24 pictures are damaged, others took their place" in text
    assert "1 of 22 pictures are damaged, they were left out" in text
    assert "done: 24 steps" in text
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"] == 21
    assert sum(row["objects"] for row in metrics["per_class"]) == 21
    text = call("train", "--out", tmp_path / "strict", "--max-damaged", 0.02, *common, code=2)
    assert "1 of 24 pictures are damaged, more than the share of 0.02 that may be" in text


def test_an_evaluation_that_ends_a_run_costs_nothing_learned(tmp_path):
    coco(tmp_path / "data", "train", 4)
    coco(tmp_path / "data", "val", 4, damaged=(0, 2))
    data = ["--data", tmp_path / "data"]
    common = ["--model", "yolo", *data, "--steps", 3, "--save-minutes", 0, *SMALL, *TINY]
    text = call("train", "--out", tmp_path / "run", *common, code=2)
    assert "1 of 4 pictures are damaged, more than the share of 0.05 that may be" in text
    run = tmp_path / "run"
    assert json.loads((run / "last.json").read_text())["step"] == 3
    assert "more than the share of 0.4" in call(
        "eval", "--checkpoint", run, "--max-damaged", 0.4, code=2
    )
    call("eval", "--checkpoint", run, "--max-damaged", 0.5)
    text = call("train", "--resume", run, "--max-damaged", 0.5)
    assert "done: 3 steps" in text and "mAP" in text


def test_a_run_does_not_go_on_with_other_classes(tmp_path):
    coco(tmp_path / "data", "train", 4)
    common = ["--model", "yolo", "--data", tmp_path / "data" / "train.json", *SMALL, *TINY]
    call("train", "--out", tmp_path / "run", "--steps", 1, *common)
    file = tmp_path / "data" / "train.json"
    file.write_text(file.read_text().replace('"thing"', '"other"'))
    text = call("train", "--resume", tmp_path / "run", code=2)
    assert "train.json has the classes other, the model thing" in text


def test_mosaic_crops_and_batches_by_aspect_ratio(tmp_path):
    coco(tmp_path / "data", "train", 10)
    flags = ["--mosaic", 0.5, "--crops", 0.5, "--group-aspect", "--workers", 1]
    text = call(
        *("train", "--model", "yolo", "--data", tmp_path / "data" / "train.json", "--steps", 3),
        *("--out", tmp_path / "run", *flags, *SMALL, *TINY),
    )
    assert "done: 3 steps" in text
    assert "no evaluation: train.json is all training data; give a second one" in text
    saved = json.loads((tmp_path / "run" / "last.json").read_text())["training"]
    assert saved["group_aspect"] is True
    assert saved["max_damaged"] == 0.05


@pytest.mark.parametrize("flag", ["--mosaic", "--crops"])
def test_a_classifier_has_no_boxes_to_crop(tmp_path, flag):
    text = call(
        *("train", "--model", "classifier", flag, 0.5, "--steps", 1, "--out", tmp_path / "run"),
        *SMALL,
        code=2,
    )
    assert "--mosaic and --crops need boxes, the data is for classification" in text


def test_what_augmentation_comes_to():
    from detcore.commands.train_setup import augmentation
    from detcore.data import Digits
    from detcore.data.loading.transforms import Augment

    net = torch.nn.Identity()
    assert augmentation(net, Digits("val"), None, mosaic=0.3).mosaic == 0.3
    plain = augmentation(net, Digits("val"), None, crops=0.3)
    assert (plain.crops, plain.colour, plain.mirror) == (0.3, 0, 0)
    full = augmentation(net, Digits("val"), Augment(), mosaic=0.3, crops=0.2)
    assert (full.mosaic, full.crops, full.mirror, full.colour) == (0.3, 0.2, 0, 0.2)


def test_several_labels_an_image(tmp_path):
    rows = []
    for k in range(12):
        Image.new("RGB", (40, 40), (250 * (k % 2), 250 * (k // 2 % 2), 0)).save(
            tmp_path / f"{k}.png"
        )
        rows.append(f"{k}.png,{k % 2},{k // 2 % 2},{'val' if k > 7 else 'train'}\n")
    file = tmp_path / "labels.csv"
    file.write_text("file,red,green,split\n" + "".join(rows))
    common = ["--model", "classifier", "--data", f"multilabel:{file}", "--steps", 3, *SMALL]
    text = call("train", "--out", tmp_path / "run", *common)
    assert "8 train, 4 val" in text
    saved = json.loads((tmp_path / "run" / "last.json").read_text())
    assert saved["model"]["multilabel"] is True
    assert saved["classes"] == ["red", "green"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"] == 4
    text = call("eval", "--checkpoint", tmp_path / "run", "--data", file, "--split", "train")
    assert "8 images" in text
    file.write_text("file,red,green,split\n" + "".join(r.replace("val", "train") for r in rows))
    text = call("train", "--out", tmp_path / "one", *common)
    assert "by a hash of their names" in text
    text = call("train", "--out", tmp_path / "none", "--val-share", 0, *common)
    assert "12 train, 0 val" in text and "no evaluation" in text
