"""Data sets of torchvision, in files of the published form that the tests write."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from detcore.data import DataError, Folder, load
from detcore.data.faults import NoSplit

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar(root, monkeypatch, each=3):
    """Batches in the published form: rows of 3072 bytes, red plane first; our own checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def put(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name):
        pixels = rng.integers(0, 256, (each, 3072)).astype(np.uint8)
        pixels[:, :1024] = 200
        return put(name, {"data": pixels, "labels": list(range(each)), "batch_label": name})

    train = [batch(f"data_batch_{k}") for k in range(1, 6)]
    test = [batch("test_batch")]
    _, checksum = put("batches.meta", {"label_names": NAMES, "num_vis": 3072})
    reader = datasets.CIFAR10
    monkeypatch.setattr(reader, "train_list", train)
    monkeypatch.setattr(reader, "test_list", test)
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": checksum})
    return folder


def write_idx(folder, train=5, test=2):
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = np.arange(count * 28 * 28, dtype=np.int64).astype(np.uint8)
        head = np.array([2051, count, 28, 28], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = np.arange(count, dtype=np.uint8)
        head = np.array([2049, count], ">i4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def test_cifar10(tmp_path, monkeypatch):
    folder = write_cifar(tmp_path, monkeypatch)
    for spec in (tmp_path, folder, f"cifar10:{tmp_path}", f"cifar10:{folder}"):
        data = load(spec)
        assert len(data) == 15
    assert data.classes == NAMES
    assert data.mirror
    image, target = data[4]
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8
    assert (image[0] == 200).all()
    assert target["label"].item() == 1
    assert target["label"].dtype == torch.int64
    assert target["image_id"] == 5
    assert data.size(0) == (32, 32)
    assert [len(load(tmp_path, s)) for s in ("val", "test", "all")] == [3, 3, 18]
    with pytest.raises(NoSplit, match=r"train, val, test or all"):
        load(tmp_path, "dev")
    (folder / "data_batch_3").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"CIFAR10 is not here, or .* put .*cifar-10-batches-py"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_mnist_and_fashion_mnist(tmp_path, name, folder):
    with pytest.raises(DataError, match=rf"{folder} is not here.*in {folder}/raw, unpacked"):
        load(f"{name}:{tmp_path}")
    write_idx(tmp_path / folder / "raw")
    for spec in (tmp_path, f"{name}:{tmp_path}", f"{name}:{tmp_path / folder}"):
        data = load(spec)
        assert len(data) == 5
    assert len(load(f"{name}:{tmp_path / folder / 'raw'}", "val")) == 2
    image, target = data[1]
    assert image.shape == (3, 28, 28)
    assert image[:, 0, 1].tolist() == [(784 + 1) % 256] * 3
    assert target["label"].item() == 1
    assert data.classes[1] == ("1" if name == "mnist" else "Trouser")
    assert data.mirror == (name != "mnist")
    (tmp_path / folder / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0")
    with pytest.raises(DataError, match=r"files are damaged"):
        load(f"{name}:{tmp_path}")


def test_two_sets_in_one_folder_must_be_named(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw")
    write_idx(tmp_path / "FashionMNIST" / "raw")
    with pytest.raises(DataError, match=r"holds mnist and fashion-mnist; name one: mnist:"):
        load(tmp_path)
    assert len(load(f"fashion-mnist:{tmp_path}")) == 5


def pictures(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (10, 8)).save(folder / name)


def test_caltech256(tmp_path):
    base = tmp_path / "256_ObjectCategories"
    pictures(base / "001.ak47", "001_0001.jpg", "001_0002.jpg")
    pictures(base / "056.dog", "056_0001.jpg")
    (base / "056.dog" / "greg").mkdir()  # the real set has this stray folder
    pictures(base / "257.clutter", "257_0001.jpg")
    for spec in (tmp_path, base, f"caltech256:{tmp_path}", f"caltech256:{base}"):
        data = load(spec, "all")
        assert isinstance(data, Folder)
        assert data.classes == ["ak47", "dog", "clutter"]
        assert [data.label(i).item() for i in range(4)] == [0, 0, 1, 2]
    assert load(f"caltech256:{base}", "all", clutter=False).classes == ["ak47", "dog"]
    with pytest.raises(DataError, match=r"unpack 256_ObjectCategories.tar there"):
        load(f"caltech256:{base / '001.ak47'}")


def test_imagenet(tmp_path):
    pictures(tmp_path / "train" / "n01440764", "n01440764_18.JPEG")
    pictures(tmp_path / "train" / "n01443537", "n01443537_2.JPEG")
    (tmp_path / "val").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    data = load(f"imagenet:{tmp_path}")
    assert data.classes == ["n01440764", "n01443537"]
    with pytest.raises(DataError, match=r"val: no class folders; .* sort its pictures"):
        load(f"imagenet:{tmp_path}", "val")
    pictures(tmp_path / "val" / "n01440764", "ILSVRC2012_val_00000293.JPEG")
    pictures(tmp_path / "val" / "n01443537", "ILSVRC2012_val_00000236.JPEG")
    assert len(load(f"imagenet:{tmp_path}", "val")) == 2
    with pytest.raises(DataError, match=r"no ImageNet; wanted train/ and val/"):
        load(f"imagenet:{tmp_path / 'train'}")
