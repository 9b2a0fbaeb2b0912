"""Compares a published network with OpenCV's reader of the same files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from detcore.data import load
from detcore.evaluation.evaluator import evaluate
from detcore.weights import Darknet, load_darknet

from .conftest import NET, Floats
from .test_darknet import HEAD

# every layer kind, even and odd windows; OpenCV needs sizes that Darknet omits
EVERYTHING = """
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=mish
[convolutional]
filters=8
size=3
pad=1
groups=4
activation=swish
[shortcut]
from=-2
activation=linear
[route]
layers=-1
groups=2
group_id=1
[maxpool]
size=2
stride=1
[convolutional]
batch_normalize=1
filters=6
size=1
activation=leaky
[maxpool]
size=5
stride=1
[maxpool]
size=2
stride=2
[dropout]
probability=.2
[convolutional]
filters=6
size=1
activation=relu
[upsample]
stride=2
[route]
layers=-1,4,-9
[convolutional]
filters=6
size=1
activation=logistic
"""


def opencv(cfg: Path, weights: Path, layer: str, images: torch.Tensor) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        pytest.skip("this OpenCV has no reader of Darknet's files")
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(images.contiguous().numpy())
    return net.forward(layer)


@pytest.fixture
def files(shared: Callable[[str], Path]) -> tuple[Path, Path]:
    folder = shared("weights/yolo-fastest-1.1")
    return folder / "yolo-fastest-1.1.cfg", folder / "yolo-fastest-1.1.weights"


@pytest.fixture
def model(files: tuple[Path, Path]) -> Darknet:
    return load_darknet(*files, score_threshold=0.001)


def test_every_layer_as_opencv_reads_it(written, floats: Floats):
    # filters and kernel of the six convolutions, and whether batch norm follows
    for filters, kernel, normalized in (
        (8, 3 * 9, True),
        (8, 2 * 9, False),
        (6, 4, True),
        (6, 6, False),
        (6, 6 + 4 + 8, False),
        (6, 6, False),
    ):
        floats.draw(filters)
        if normalized:
            floats.draw(2 * filters)
            floats.variance(filters)
        floats.draw(filters * kernel).div_(kernel**0.5)
    cfg = (
        NET.replace("12", "44").replace("8", "28")
        + EVERYTHING
        + HEAD.replace("filters=6", "filters=6\nsize=1")
    )
    paths = written(cfg, floats.file())
    images = torch.rand(1, 3, 28, 44, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        (ours,) = load_darknet(*paths).raw_maps(images)
    assert np.abs(opencv(*paths, "conv_13", images) - ours.numpy()).max() < 1e-4


def test_every_float_of_the_real_file_is_in_the_model(files, model):
    held = sum(v.numel() for v in model.state_dict().values() if v.is_floating_point())
    assert 4 * held + 20 == files[1].stat().st_size
    assert model.num_classes == 81 and model.size == (320, 320)


def test_raw_maps_as_opencv_reads_them(files, model, shared):
    data = load(shared("data/coco-mini"))
    images = model.preprocess([data.image(i).float() / 255 for i in range(4)]).images
    with torch.no_grad():
        maps = model.raw_maps(images)
    assert [tuple(m.shape) for m in maps] == [(4, 255, 10, 10), (4, 255, 20, 20)]
    for layer, ours in zip(("conv_120", "conv_129"), maps, strict=True):
        assert np.abs(opencv(*files, layer, images) - ours.numpy()).max() < 1e-4


def test_decoding_as_opencv_does_it(files, model, shared):
    data = load(shared("data/coco-mini"))
    images = model.preprocess([data.image(0).float() / 255]).images
    with torch.no_grad():
        boxes, scores = model.decode(model.raw_maps(images))
    centre, extent = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2, boxes[0, :, 2:] - boxes[0, :, :2]
    ours = (torch.cat((centre, extent), 1) / 320).numpy()
    theirs = np.concatenate([opencv(*files, name, images) for name in ("yolo_121", "yolo_130")])
    assert np.abs(theirs[:, :4] - ours).max() < 1e-5
    # OpenCV writes 0 for scores below its threshold
    sure = theirs[:, 5:] > 0
    assert sure.any() and np.abs(theirs[:, 5:] - scores[0].numpy())[sure].max() < 1e-5


def test_objects_of_coco_are_found(model, shared):
    data = load(shared("data/coco-mini"))
    figures = evaluate(model, data, score=0.3).figures
    # 0.408 AP50; 76 of 316 objects, most of them small, at a precision of 0.60
    assert figures["AP50"] > 0.38
    assert sum(row["matched"] for row in figures["per_class"]) > 65
    assert figures["precision"] > 0.5
