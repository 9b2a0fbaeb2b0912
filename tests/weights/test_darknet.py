"""Compares each layer kind of the Darknet importer with a manual implementation."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from detcore.evaluation.thresholds import Thresholds, measured_with
from detcore.weights import Darknet, load_darknet

from .conftest import NET, Floats

Load = Callable[..., Darknet]

# a yolo layer with one anchor and one class has 6 input channels
YOLO = "[yolo]\nmask=0\nanchors=4,6\nnum=1\nclasses=1\n"
HEAD = "[convolutional]\nfilters=6\nactivation=linear\n" + YOLO
STEM = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"


def raw(model: Darknet, image: Tensor) -> Tensor:
    with torch.no_grad():
        (only,) = model.raw_maps(image)
    return only


def picture() -> Tensor:
    return torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def head(floats: Floats, x: Tensor) -> Tensor:
    bias = floats.draw(6)
    return F.conv2d(x, floats.draw(6, x.shape[1], 1, 1), bias)


def stem(floats: Floats, x: Tensor) -> Tensor:
    bias = floats.draw(4)
    return F.conv2d(x, floats.draw(4, x.shape[1], 1, 1), bias)


@pytest.mark.parametrize(
    ("options", "size", "stride", "padding"),
    [
        ("size=3\nstride=1\npad=1", 3, 1, 1),
        ("size=3\nstride=2\npad=1", 3, 2, 1),
        ("size=2\nstride=2\npad=0", 2, 2, 0),
        ("size=5\npadding=1", 5, 1, 1),
        # pad=1 means half the size, and padding is ignored
        ("size=5\npad=1\npadding=7", 5, 1, 2),
        ("size=1\npad=1", 1, 1, 0),
        ("size=3\nstride_x=1\nstride_y=2\npad=1", 3, (2, 1), 1),
        ("size = 4\n stride= 3 # a comment\npad=1", 4, 3, 2),
    ],
)
def test_convolution(loaded: Load, floats: Floats, options, size, stride, padding):
    x = picture()
    bias = floats.draw(4)
    hidden = F.conv2d(x, floats.draw(4, 3, size, size), bias, stride, padding)
    want = head(floats, hidden)
    cfg = f"[convolutional]\nfilters=4\nactivation=linear\n{options}\n"
    torch.testing.assert_close(raw(loaded(NET + cfg + HEAD, floats), x), want)


def test_batch_norm_and_groups(loaded: Load, floats: Floats):
    x = picture()
    hidden = stem(floats, x)
    beta, gamma, mean, variance = (*(floats.draw(8) for _ in range(3)), floats.variance(8))
    weight = floats.draw(8, 2, 3, 3)
    hidden = F.conv2d(hidden, weight, padding=1, groups=2)
    shape = (1, -1, 1, 1)
    hidden = (hidden - mean.view(shape)) / (variance.view(shape) + 1e-6).sqrt()
    hidden = hidden * gamma.view(shape) + beta.view(shape)
    want = head(floats, torch.where(hidden > 0, hidden, 0.1 * hidden))
    cfg = (
        "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\ngroups=2\nactivation=leaky\n"
    )
    model = loaded(NET + STEM + cfg + HEAD, floats)
    torch.testing.assert_close(raw(model, x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("linear", lambda v: v),
        ("leaky", lambda v: torch.maximum(v, 0.1 * v)),
        ("relu", lambda v: v.clamp(min=0)),
        ("mish", lambda v: v * torch.tanh(torch.log1p(torch.exp(v)))),
        ("swish", lambda v: v / (1 + torch.exp(-v))),
        ("logistic", lambda v: 1 / (1 + torch.exp(-v))),
    ],
)
def test_activations_of_convolution_and_shortcut(loaded: Load, floats: Floats, name, rule):
    x = picture()
    first = rule(stem(floats, x))
    second = stem(floats, first)
    want = head(floats, rule(second + first))
    act = STEM.replace("linear", name)
    cfg = NET + act + STEM + f"[shortcut]\nfrom=-2\nactivation={name}\n" + HEAD
    torch.testing.assert_close(raw(loaded(cfg, floats), x), want, rtol=1e-4, atol=1e-5)


def test_convolution_without_an_activation_is_logistic(loaded: Load, floats: Floats):
    x = picture()
    want = head(floats, stem(floats, x).sigmoid())
    cfg = STEM.replace("activation=linear\n", "")
    torch.testing.assert_close(raw(loaded(NET + cfg + HEAD, floats), x), want)


def test_shortcut_of_several(loaded: Load, floats: Floats):
    x = picture()
    first = stem(floats, x)
    second = stem(floats, first)
    third = stem(floats, second)
    want = head(floats, first + second + third)
    cfg = NET + STEM * 3 + "[shortcut]\nfrom=-2,0\n" + HEAD
    torch.testing.assert_close(raw(loaded(cfg, floats), x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "choose"),
    [
        ("layers=-2", lambda a, b: a),
        ("layers=0", lambda a, b: a),
        ("layers = -1, 0", lambda a, b: torch.cat((b, a), 1)),
        ("layers=-1\ngroups=2\ngroup_id=1", lambda a, b: b[:, 2:]),
        ("layers=-1,-2\ngroups=2", lambda a, b: torch.cat((b[:, :2], a[:, :2]), 1)),
    ],
)
def test_route(loaded: Load, floats: Floats, options, choose):
    x = picture()
    first = stem(floats, x)
    second = stem(floats, first)
    want = head(floats, choose(first, second))
    model = loaded(NET + STEM * 2 + f"[route]\n{options}\n" + HEAD, floats)
    torch.testing.assert_close(raw(model, x), want)


@pytest.mark.parametrize(
    ("options", "size", "stride", "padding"),
    [
        ("size=2\nstride=2", 2, 2, 1),
        ("size=2\nstride=1", 2, 1, 1),
        ("size=3\nstride=2", 3, 2, 2),
        ("size=5\nstride=1", 5, 1, 4),
        ("size=4\nstride=3", 4, 3, 3),
        ("stride=2", 2, 2, 1),
        ("size=3\nstride=2\npadding=0", 3, 2, 0),
        ("size=3\nstride=1\npadding=3", 3, 1, 3),
    ],
)
def test_maxpool(loaded: Load, floats: Floats, options, size, stride, padding):
    x = picture()
    # below 0 everywhere, so that padding with zeros would change the result
    hidden = stem(floats, x) - 100
    floats.drawn[0] -= 100
    want = head(floats, _darknet_maxpool(hidden, size, stride, padding))
    model = loaded(NET + STEM + f"[maxpool]\n{options}\n" + HEAD, floats)
    torch.testing.assert_close(raw(model, x), want, rtol=1e-4, atol=1e-4)


def _darknet_maxpool(x: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """Max pooling by loops; half of the padding, rounded down, is before the map."""
    height, width = ((side + padding - size) // stride + 1 for side in x.shape[2:])
    out = x.new_empty(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            top, left = i * stride - padding // 2, j * stride - padding // 2
            window = x[:, :, max(top, 0) : top + size, max(left, 0) : left + size]
            out[:, :, i, j] = window.amax((2, 3))
    return out


def test_upsample_and_dropout(loaded: Load, floats: Floats):
    x = picture()
    hidden = stem(floats, x)
    want = head(floats, hidden.repeat_interleave(3, 2).repeat_interleave(3, 3))
    cfg = NET + STEM + "[dropout]\nprobability=.5\n[upsample]\nstride=3\n" + HEAD
    torch.testing.assert_close(raw(loaded(cfg, floats), x), want)


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5)])
def test_header_of_every_version(written, floats: Floats, version):
    x = picture()
    want = head(floats, x)
    model = load_darknet(*written(NET + HEAD, floats.file(version)))
    torch.testing.assert_close(raw(model, x), want)


def test_two_heads_come_in_the_cfgs_order(loaded: Load, floats: Floats):
    x = picture()
    first = stem(floats, x)
    want = [head(floats, first), head(floats, first[:, :, ::2, ::2])]
    pool = "[route]\nlayers=0\n[maxpool]\nsize=1\nstride=2\n"
    model = loaded(NET + STEM + HEAD + pool + HEAD, floats)
    with torch.no_grad():
        maps = model.raw_maps(x)
    for came, wanted in zip(maps, want, strict=True):
        torch.testing.assert_close(came, wanted)
    boxes, scores = model.decode(maps)
    assert boxes.shape == (2, 8 * 12 + 4 * 6, 4) and scores.shape == (2, 8 * 12 + 4 * 6, 1)


def test_detection_in_the_given_images_pixels(loaded: Load, floats: Floats):
    """Only one cell is active; its box, label and score are computed by hand."""
    classes, anchors = 2, 3
    # the head reads the red value: with 0 there is no object, with 1 there is one
    bias = torch.full((2, 5 + classes), -20.0)
    bias[:, :4] = 0
    bias[0, 0], bias[0, 2] = 1.0, 0.5  # x and width of the mask's first anchor, number 2
    red = torch.zeros(2, 5 + classes)
    red[0, 4], red[0, 6] = 21.0, 22.0  # objectness 1 and second class 2 if red is 1
    floats.drawn = [bias.flatten(), F.pad(red.flatten()[:, None], (0, 2)).flatten()]
    cfg = (
        NET + f"[convolutional]\nfilters={2 * (5 + classes)}\nactivation=linear\n"
        f"[yolo]\nmask=2,0\nanchors=1,1, 2,2, 4,6\nnum={anchors}\n"
        f"classes={classes}\nscale_x_y=1.2\n"
    )
    image = torch.zeros(3, 8, 12)
    image[0, 5, 7] = 1
    model = loaded(cfg, floats)
    big = F.interpolate(image[None], size=(24, 24), mode="nearest")[0]
    with torch.no_grad():
        same, larger, empty = model([image, big, torch.zeros(3, 5, 5)])

    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    x = sigmoid(1.0) * 1.2 - 0.1 + 7
    y = 0.5 * 1.2 - 0.1 + 5
    w, h = 4 * math.exp(0.5), 6.0
    want = torch.tensor([[x - w / 2, y - h / 2, x + w / 2, min(y + h / 2, 8.0)]])
    torch.testing.assert_close(same["boxes"], want)
    torch.testing.assert_close(same["scores"], torch.tensor([sigmoid(1.0) * sigmoid(2.0)]))
    assert same["labels"].tolist() == [2]
    assert model.num_classes == 3
    # the larger picture shrinks back to the same one: 3 times as high, 2 times as wide
    torch.testing.assert_close(larger["boxes"][:1], want * torch.tensor([2.0, 3.0, 2.0, 3.0]))
    assert empty["boxes"].shape == (0, 4)


def test_other_shapes_and_modes_are_refused(loaded: Load, floats: Floats):
    head(floats, picture())
    model = loaded(NET + HEAD, floats)
    assert model([]) == []
    with pytest.raises(ValueError, match=r"images must be \[B, 3, 8, 12\], got \[1, 3, 12, 8\]"):
        model.raw_maps(torch.zeros(1, 3, 12, 8))
    with pytest.raises(ValueError, match=r"images\[0\] must be \[3, H, W\], got \[1, 8, 12\]"):
        model([torch.zeros(1, 8, 12)])
    with pytest.raises(ValueError, match="evaluation mode wanted"):
        model.train()([torch.zeros(3, 8, 12)])


def test_state_dict_holds_all_weights(loaded: Load, floats: Floats):
    x = picture()
    want = head(floats, x)
    model = loaded(NET + HEAD, floats)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(state)
    torch.testing.assert_close(raw(model, x), want)


def test_it_is_measured_with_almost_no_score_threshold(loaded: Load, floats: Floats):
    head(floats, picture())
    model = loaded(NET + HEAD, floats)
    with measured_with(model, Thresholds()) as used:
        assert used == Thresholds(0.001, 0.45, 100)
    assert model.postprocess.score_threshold == 0.05
