"""Darknet's layers as modules, and the builder that makes them from sections and floats.

After https://github.com/AlexeyAB/darknet (public domain), src/*_layer.c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.ops import decode_dense
from detcore.parts.preprocess import Size

from .darknet_files import Section, WeightsFile

Shape = tuple[int, int, int]  # channels, height, width

IMAGE = -1  # what the first layer reads; layers count from 0

# 1 GiB of float32: a map beyond it is a mistake or an attack, and found before it is allocated
_LARGEST_MAP = 1 << 28
_LARGEST_WINDOW = 255

# inside the root; OpenCV's reader has the same. Darknet itself has 1e-5 there in one fork and adds
# 1e-6 to the root in the other
_BATCH_NORM_EPS = 1e-6

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "relu": nn.ReLU,
    "mish": nn.Mish,
    "swish": nn.SiLU,
    "logistic": nn.Sigmoid,
}


class YOLOLayer(nn.Module):
    """Anchors and decoding of one [yolo] section; its forward hands the raw map through.

    Args:
        anchors: width and height in pixels of the network's input, those that the mask names.
        classes: C. scale_xy: v4's scale_x_y, 1 in v3.
    """

    def __init__(
        self, anchors: Sequence[tuple[float, float]], classes: int, scale_xy: float
    ) -> None:
        super().__init__()
        # no buffer: bfloat16 could not hold a width of 459
        self.anchors = [tuple(a) for a in anchors]
        self.classes = classes
        self.scale_xy = scale_xy

    def forward(self, x: Tensor) -> Tensor:
        """The map as it is: decoding belongs to the whole network."""
        return x

    def decode(self, maps: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Boxes [B, H * W * A, 4] (xyxy, pixels of size) and scores [B, H * W * A, C]."""
        stride = (size[0] / maps.shape[2], size[1] / maps.shape[3])
        # in full precision: a half cannot hold a pixel's place in a large image
        maps = maps.float()
        anchors = maps.new_tensor(self.anchors)
        boxes, scores = decode_dense(maps, anchors, stride, "yolo", scale_xy=self.scale_xy)
        assert scores is not None
        return boxes, scores


class Route(nn.Module):
    """Maps one behind the other in channels, or of each its group_id-th of `groups` parts."""

    def __init__(self, groups: int, group_id: int) -> None:
        super().__init__()
        self.groups = groups
        self.group_id = group_id

    def forward(self, *maps: Tensor) -> Tensor:
        """The maps [B, C_i, H, W] (or one group of their channels) side by side."""
        if self.groups > 1:
            maps = tuple(m.chunk(self.groups, dim=1)[self.group_id] for m in maps)
        return torch.cat(maps, dim=1) if len(maps) > 1 else maps[0]


class Shortcut(nn.Module):
    """The sum of maps of one shape, activated."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """The sum of maps of one shape, then the activation."""
        for other in others:
            first = first + other
        return self.activation(first)


class MaxPool(nn.Module):
    """Darknet's pooling: `padding` in all, the smaller half before, the larger behind.

    So a window of 2 looks right and down, and with stride 1 keeps the map's size.
    """

    def __init__(self, size: int, stride: tuple[int, int], padding: int) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.before, self.behind = padding // 2, padding - padding // 2

    def forward(self, x: Tensor) -> Tensor:
        """Max pooling of [B, C, H, W], padded as Darknet pads."""
        sides = (self.before, self.behind) * 2
        return F.max_pool2d(F.pad(x, sides, value=-math.inf), self.size, self.stride)


class Builder:
    """Turns sections into modules, one after the other, and feeds each its floats.

    layers, inputs: as `Darknet` takes them. shapes: of each layer's map by number; -1 the image's.
    """

    def __init__(self, net: Section, floats: WeightsFile) -> None:
        self.floats = floats
        self.layers: list[nn.Module] = []
        self.inputs: list[tuple[int, ...]] = []
        self.shapes: dict[int, Shape] = {}
        height = net.integer("height", 416, 1, 1 << 15)
        width = net.integer("width", 416, 1, 1 << 15)
        self._keep(net, IMAGE, (net.integer("channels", 3, 3, 3), height, width))

    def add(self, section: Section) -> None:
        """Build the next layer. Raises ValueError for a section that is unknown or wrong."""
        kinds = {
            "convolutional": self._convolutional,
            "route": self._route,
            "shortcut": self._shortcut,
            "maxpool": self._maxpool,
            "upsample": self._upsample,
            "dropout": self._dropout,
            "yolo": self._yolo,
        }
        if section.kind not in kinds:
            raise section.error(f"a section of {', '.join(kinds)} wanted, got {section.kind}")
        # its floats would not be in the file
        section.refuse(dontload="0", dontloadscales="0")
        layer, inputs, shape = kinds[section.kind](section)
        self._keep(section, len(self.layers), shape)
        self.layers.append(layer)
        self.inputs.append(inputs)

    def _convolutional(self, section: Section) -> tuple[nn.Module, tuple[int, ...], Shape]:
        section.refuse(dilation="1", binary="0", xnor="0", flipped="0", antialiasing="0")
        source, (channels, height, width) = self._previous(section)
        filters = section.integer("filters", 1, 1, 1 << 20)
        size = section.integer("size", 1, 1, _LARGEST_WINDOW)
        groups = section.integer("groups", 1, 1, 1 << 20)
        if channels % groups or filters % groups:
            raise section.error(
                f"groups must divide {channels} channels and {filters} filters, got {groups}",
                "groups",
            )
        stride = _stride(section)
        padding = section.integer("padding", 0, 0, _LARGEST_WINDOW)
        if section.integer("pad", 0, 0, 1):
            padding = size // 2
        normalized = bool(section.integer("batch_normalize", 0, 0, 1))
        activation = _activation(section, "logistic")
        shape = (
            filters,
            self._fit(section, height, 2 * padding, size, stride[0]),
            self._fit(section, width, 2 * padding, size, stride[1]),
        )

        # the file's order: biases, what belongs to batch norm, the kernel
        bias = self.floats.take([filters], section, "biases")
        norm = self._batch_norm(section, bias) if normalized else None
        kernel = [filters, channels // groups, size, size]
        weight = self.floats.take(kernel, section, "weights")
        conv = nn.utils.skip_init(
            nn.Conv2d, channels, filters, size, stride, padding, groups=groups, bias=norm is None
        )
        with torch.no_grad():
            conv.weight.copy_(weight)
            if norm is None:
                conv.bias.copy_(bias)
        parts = [conv, activation] if norm is None else [conv, norm, activation]
        return nn.Sequential(*parts), (source,), shape

    def _batch_norm(self, section: Section, bias: Tensor) -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(len(bias), eps=_BATCH_NORM_EPS)
        places = {"scales": norm.weight, "means": norm.running_mean, "variances": norm.running_var}
        with torch.no_grad():
            norm.bias.copy_(bias)
            for what, place in places.items():
                assert place is not None
                place.copy_(self.floats.take([len(bias)], section, what))
        assert norm.running_var is not None
        least = norm.running_var.min().item()
        if least < 0:
            raise ValueError(
                f"{self.floats.path}: {section.place()}: variances of at least 0 wanted, "
                f"got {least}: the file is of another cfg"
            )
        return norm

    def _route(self, section: Section) -> tuple[nn.Module, tuple[int, ...], Shape]:
        sources = self._named(section, "layers")
        groups = section.integer("groups", 1, 1, 1 << 20)
        group_id = section.integer("group_id", 0, 0, groups - 1)
        shapes = [self.shapes[j] for j in sources]
        for j, shape in zip(sources, shapes, strict=True):
            if shape[1:] != shapes[0][1:]:
                raise section.error(
                    f"layers must be of one height and width, got {shapes[0]} of layer "
                    f"{sources[0]} and {shape} of layer {j}",
                    "layers",
                )
            if shape[0] % groups:
                raise section.error(
                    f"groups must divide {shape[0]} channels of layer {j}, got {groups}", "groups"
                )
        channels = sum(shape[0] // groups for shape in shapes)
        return Route(groups, group_id), sources, (channels, *shapes[0][1:])

    def _shortcut(self, section: Section) -> tuple[nn.Module, tuple[int, ...], Shape]:
        section.refuse(weights_type="none", weights_normalization="none")
        source, shape = self._previous(section)
        others = self._named(section, "from")
        for j in others:
            if self.shapes[j] != shape:
                raise section.error(
                    f"from must name layers of {shape}, got {self.shapes[j]} of layer {j}", "from"
                )
        return Shortcut(_activation(section, "linear")), (source, *others), shape

    def _maxpool(self, section: Section) -> tuple[nn.Module, tuple[int, ...], Shape]:
        section.refuse(maxpool_depth="0", antialiasing="0")
        source, (channels, height, width) = self._previous(section)
        stride = _stride(section)
        size = section.integer("size", stride[1], 1, _LARGEST_WINDOW)
        # more, and a window could lie beside the map
        padding = section.integer("padding", size - 1, 0, 2 * (size - 1))
        shape = (
            channels,
            self._fit(section, height, padding, size, stride[0]),
            self._fit(section, width, padding, size, stride[1]),
        )
        return MaxPool(size, stride, padding), (source,), shape

    def _upsample(self, section: Section) -> tuple[nn.Module, tuple[int, ...], Shape]:
        if section.numbers("scale", "1") != [1.0]:
            raise section.error(f"scale must be 1, got {section.text('scale')}", "scale")
        source, (channels, height, width) = self._previous(section)
        times = section.integer("stride", 2, 1, _LARGEST_WINDOW)
        up = nn.Upsample(scale_factor=float(times), mode="nearest")
        return up, (source,), (channels, height * times, width * times)

    def _dropout(self, section: Section) -> tuple[nn.Module, tuple[int, ...], Shape]:
        source, shape = self._previous(section)
        # evaluation only: it passes on what it is given
        return nn.Identity(), (source,), shape

    def _yolo(self, section: Section) -> tuple[nn.Module, tuple[int, ...], Shape]:
        section.refuse(new_coords="0")
        source, shape = self._previous(section)
        sides, count = section.numbers("anchors"), section.integer("num", 1, 1, 1 << 10)
        if len(sides) != 2 * count:
            raise section.error(
                f"anchors must be {2 * count} numbers, two for each of num, got {len(sides)}",
                "anchors",
            )
        pairs = list(zip(sides[0::2], sides[1::2], strict=True))
        mask = section.integers("mask", ",".join(map(str, range(count))))
        if not all(0 <= m < count for m in mask):
            raise section.error(f"mask must be of anchors 0..{count - 1}, got {mask}", "mask")
        classes = section.integer("classes", 20, 1, 1 << 16)
        for other in (layer for layer in self.layers if isinstance(layer, YOLOLayer)):
            if other.classes != classes:
                raise section.error(
                    f"classes must be {other.classes} as in the yolo section before, got {classes}",
                    "classes",
                )
        if shape[0] != len(mask) * (5 + classes):
            raise section.error(
                f"a map of {len(mask)} * (5 + {classes}) channels wanted, anchors times box, "
                f"objectness and classes, got {shape[0]}"
            )
        scale = section.numbers("scale_x_y", "1")
        if len(scale) != 1:
            raise section.error(f"scale_x_y must be one number, got {scale}", "scale_x_y")
        return YOLOLayer([pairs[m] for m in mask], classes, scale[0]), (source,), shape

    def _previous(self, section: Section) -> tuple[int, Shape]:
        """The layer before, which most sections read, and its shape."""
        source = len(self.layers) - 1
        self._check_map(section, source, None)
        return source, self.shapes[source]

    def _named(self, section: Section, key: str) -> tuple[int, ...]:
        """Layers named by number, or, below 0, counted back from this one."""
        here = len(self.layers)
        named = section.integers(key)
        sources = tuple(n + here if n < 0 else n for n in named)
        for n, source in zip(named, sources, strict=True):
            if not 0 <= source < here:
                earlier = f"earlier layers, {-here}..{here - 1}," if here else "earlier layers,"
                raise section.error(f"{key} must name {earlier} got {n}", key)
            self._check_map(section, source, key)
        return sources

    def _check_map(self, section: Section, source: int, key: str | None) -> None:
        if source >= 0 and isinstance(self.layers[source], YOLOLayer):
            raise section.error(
                f"a map of features wanted, got layer {source}, which is a yolo layer", key
            )

    def _fit(self, section: Section, side: int, padding: int, size: int, stride: int) -> int:
        """A side's length after windows have gone over it."""
        if side + padding < size:
            raise section.error(
                f"size must fit a padded map of {side + padding}, got {size}", "size"
            )
        return (side + padding - size) // stride + 1

    def _keep(self, section: Section, layer: int, shape: Shape) -> None:
        if math.prod(shape) > _LARGEST_MAP:
            raise section.error(
                f"a map of at most {_LARGEST_MAP} values wanted, got {' x '.join(map(str, shape))}"
            )
        self.shapes[layer] = shape


def _activation(section: Section, default: str) -> nn.Module:
    name = section.text("activation", default)
    if name not in _ACTIVATIONS:
        raise section.error(
            f"activation must be one of {', '.join(_ACTIVATIONS)}, got {name!r}", "activation"
        )
    return _ACTIVATIONS[name]()


def _stride(section: Section) -> tuple[int, int]:
    """Vertical and horizontal."""
    both = section.integer("stride", 1, 1, _LARGEST_WINDOW)
    return (
        section.integer("stride_y", both, 1, _LARGEST_WINDOW),
        section.integer("stride_x", both, 1, _LARGEST_WINDOW),
    )
