"""Published cfgs, abbreviated, need exactly the size of the published weights files."""

import struct

import pytest
import torch

from detcore.weights import load_darknet


def conv(filters: int, size: int = 3, stride: int = 1, activation: str = "leaky") -> str:
    norm = "" if activation == "linear" else "batch_normalize=1\n"
    return (
        f"[convolutional]\n{norm}filters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        f"activation={activation}\n"
    )


def route(layers: str, groups: int = 1) -> str:
    return f"[route]\nlayers={layers}\n" + ("groups=2\ngroup_id=1\n" if groups == 2 else "")


def pool(stride: int = 2) -> str:
    return f"[maxpool]\nsize=2\nstride={stride}\n"


def shortcut(activation: str = "linear") -> str:
    return f"[shortcut]\nfrom=-3\nactivation={activation}\n"


def yolo(mask: str, anchors: str, scale: float = 1.0) -> str:
    count = (anchors.count(",") + 1) // 2
    return (
        conv(255, 1, activation="linear")
        + f"[yolo]\nmask={mask}\nanchors={anchors}\nnum={count}\nclasses=80\nscale_x_y={scale}\n"
        + "jitter=.3\nignore_thresh=.7\ntruth_thresh=1\nrandom=1\n"
    )


UP = "[upsample]\nstride=2\n"
TINY_ANCHORS = "10,14,  23,27,  37,58,  81,82,  135,169,  344,319"
ANCHORS = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"

V4_ANCHORS = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"


def net(side: int) -> str:
    return f"[net]\nbatch=64\nwidth={side}\nheight={side}\nchannels=3\nsteps=400000,450000\n"


def v3_tiny() -> str:
    trunk = "".join(conv(f) + pool() for f in (16, 32, 64, 128, 256))
    deep = conv(512) + pool(1) + conv(1024) + conv(256, 1) + conv(512)
    fine = route("-4") + conv(128, 1) + UP + route("-1,8") + conv(256)
    return (
        net(416) + trunk + deep + yolo("3,4,5", TINY_ANCHORS) + fine + yolo("0,1,2", TINY_ANCHORS)
    )


def v4_tiny() -> str:
    def stage(width: int) -> str:
        half = width // 2
        split = conv(width) + route("-1", 2) + conv(half) + conv(half) + route("-1,-2")
        return split + conv(width, 1) + route("-6,-1") + pool()

    trunk = conv(32, stride=2) + conv(64, stride=2) + stage(64) + stage(128) + stage(256)
    deep = conv(512) + conv(256, 1) + conv(512) + yolo("3,4,5", TINY_ANCHORS, 1.05)
    fine = route("-4") + conv(128, 1) + UP + route("-1,23") + conv(256)
    return net(416) + trunk + deep + fine + yolo("1,2,3", TINY_ANCHORS, 1.05)


def v3() -> str:
    trunk = conv(32)
    for width, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        block = conv(width // 2, 1) + conv(width) + shortcut()
        trunk += conv(width, stride=2) + block * blocks

    def neck(width: int) -> str:
        return (conv(width, 1) + conv(2 * width)) * 3

    def step(width: int, layer: int) -> str:
        return route("-4") + conv(width, 1) + UP + route(f"-1, {layer}")

    return (
        net(416)
        + trunk
        + (neck(512) + yolo("6,7,8", ANCHORS))
        + (step(256, 61) + neck(256) + yolo("3,4,5", ANCHORS))
        + (step(128, 36) + neck(128) + yolo("0,1,2", ANCHORS))
    )


def v4() -> str:
    def stage(width: int, blocks: int) -> str:
        half = 64 if width == 64 else width // 2
        inner = 32 if width == 64 else half
        block = conv(inner, 1, activation="mish") + conv(half, activation="mish") + shortcut()
        one = conv(half, 1, activation="mish")
        split = conv(width, stride=2, activation="mish") + one + route("-2") + one
        joined = one + route(f"-1,-{3 * blocks + 4}") + conv(width, 1, activation="mish")
        return split + block * blocks + joined

    def neck(width: int) -> str:
        return (conv(width, 1) + conv(2 * width)) * 2 + conv(width, 1)

    def up(width: int, layer: int) -> str:
        side = conv(width, 1) + UP + route(str(layer)) + conv(width, 1) + route("-1,-3")
        return side + neck(width)

    def down(width: int, layer: int) -> str:
        return route("-4") + conv(width, stride=2) + route(f"-1,{layer}") + neck(width)

    trunk = conv(32, activation="mish")
    for width, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        trunk += stage(width, blocks)
    three = conv(512, 1) + conv(1024) + conv(512, 1)
    pyramid = "[maxpool]\nstride=1\nsize=5\n[route]\nlayers=-2\n[maxpool]\nstride=1\nsize=9\n"
    pyramid += "[route]\nlayers=-4\n[maxpool]\nstride=1\nsize=13\n[route]\nlayers=-1,-3,-5,-6\n"
    return (
        net(416)
        + (trunk + three + pyramid + three)
        + (up(256, 85) + up(128, 54) + conv(256) + yolo("0,1,2", V4_ANCHORS, 1.2))
        + (down(256, -16) + conv(512) + yolo("3,4,5", V4_ANCHORS, 1.1))
        + (down(512, -37) + conv(1024) + yolo("6,7,8", V4_ANCHORS, 1.05))
    )


@pytest.mark.parametrize(
    ("cfg", "size", "sides"),
    [
        (v3_tiny(), 35_434_956, [13, 26]),
        (v4_tiny(), 24_251_276, [13, 26]),
        (v3(), 248_007_048, [13, 26, 52]),
        (v4(), 257_717_640, [52, 26, 13]),
    ],
    ids=["yolov3-tiny", "yolov4-tiny", "yolov3", "yolov4"],
)
def test_published_size(tmp_path, cfg, size, sides):
    weights = tmp_path / "net.weights"
    with weights.open("wb") as stream:
        stream.write(struct.pack("<3iq", 0, 2, 5, 0))
        # a sparse file of zeros
        stream.truncate(size)
    (tmp_path / "net.cfg").write_text(cfg)
    model = load_darknet(tmp_path / "net.cfg", weights)
    assert model.num_classes == 81
    if size < 1e8:
        with torch.no_grad():
            maps = model.raw_maps(torch.zeros(1, 3, 416, 416))
        assert [tuple(m.shape) for m in maps] == [(1, 255, s, s) for s in sides]
