"""Heads: from feature maps to raw predictions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .angle_coder import CODE_OF_ZERO, CODE_VALUES
from .layers import Norm, conv_norm_act, group_norm, prediction_conv, prior_bias


def dense_to_rows(maps: Tensor, values: int) -> Tensor:
    """A dense head's map [N, A * values, H, W] as rows [N, H * W * A, values].

    Channels are anchor-major (channel = a * values + k), rows run over H, then W, then A: the one
    layout of every dense head here, the same as `decode_dense`'s and `grid_anchors`'s. Raises
    ValueError for channels that `values` does not divide.
    """
    if maps.dim() != 4 or maps.shape[1] % values:
        raise ValueError(
            f"dense_to_rows: maps must be [N, A * {values}, H, W], got {list(maps.shape)}"
        )
    n, channels, height, width = maps.shape
    anchors = channels // values
    split = maps.reshape(n, anchors, values, height, width)
    return split.permute(0, 3, 4, 1, 2).reshape(n, height * width * anchors, values)


class RPNHead(nn.Module):
    """Region proposal head (Ren et al., Faster R-CNN, 2015), one for all levels.

    depth: how many 3x3 convolutions come before the predictions.

    forward(maps): list of [B, in_channels, H, W] gives two lists: objectness logits [B, A, H, W]
    and deltas [B, A * 4, H, W], A being `anchors_per_cell`.
    """

    def __init__(self, in_channels: int, anchors_per_cell: int, depth: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(conv_norm_act(in_channels, in_channels, 3, norm=None) for _ in range(depth))
        )
        self.logits = prediction_conv(in_channels, anchors_per_cell)
        self.deltas = prediction_conv(in_channels, anchors_per_cell * 4)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits [B, A, H, W] and deltas [B, 4A, H, W] of each map."""
        hidden = [self.convs(m) for m in maps]
        return [self.logits(h) for h in hidden], [self.deltas(h) for h in hidden]


class SSDHead(nn.Module):
    """SSD's head (Liu et al., 2016): its own two convolutions on every level.

    Args:
        in_channels, anchors_per_cell: one number per level.
        num_classes: classes, the background (class 0) counted.
        width: channels of a 3x3 convolution with group norm before the predictions, which lets a
            network train from scratch; None: the paper's bare predictions.
        depthwise_norm: not None: each prediction is a depthwise 3x3 with this norm and a 1x1, as
            in SSDLite (Sandler et al., MobileNetV2, 2018).

    forward(maps): list of [B, in_channels[i], H, W] gives two lists: class logits
    [B, A_i * num_classes, H, W] and deltas [B, A_i * 4, H, W]. At first every anchor is background
    with 0.99 probability.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        anchors_per_cell: Sequence[int],
        num_classes: int,
        *,
        width: int | None = 128,
        depthwise_norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleList(
            nn.Identity() if width is None else conv_norm_act(c, width, 3, norm=group_norm)
            for c in in_channels
        )
        inner = list(in_channels) if width is None else [width] * len(in_channels)
        pairs = list(zip(inner, anchors_per_cell, strict=True))
        self.logits = nn.ModuleList(
            _prediction(c, a * num_classes, depthwise_norm) for c, a in pairs
        )
        self.deltas = nn.ModuleList(_prediction(c, a * 4, depthwise_norm) for c, a in pairs)
        # a softmax over K logits: the background's bias against K - 1 zeros, less log(K - 1)
        background = prior_bias(0.99) + math.log(max(num_classes - 1, 1))
        for level in self.logits:
            *_, conv = (m for m in level.modules() if isinstance(m, nn.Conv2d))
            nn.init.constant_(conv.bias[0::num_classes], background)  # type: ignore[index]

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits [B, A * C, H, W] and deltas [B, 4A, H, W] of each map."""
        hidden = [tower(m) for tower, m in zip(self.towers, maps, strict=True)]
        logits = [conv(h) for conv, h in zip(self.logits, hidden, strict=True)]
        deltas = [conv(h) for conv, h in zip(self.deltas, hidden, strict=True)]
        return logits, deltas


class YOLOHead(nn.Module):
    """A decoupled head (Ge et al., YOLOX, 2021), one for all levels, with anchors or without.

    One branch of convolutions finds the box, another names the class; objectness is read from the
    box branch. All levels share the weights, so each learns from the objects of all.

    Args:
        in_channels: channels of every level.
        num_classes: foreground classes C, the background not counted.
        anchors_per_cell: A of an anchor-based head; None: anchor-free, one box per cell.
        width, depth: channels of the branches and how many 3x3 convolutions each has.
        typical_size: side of an untrained anchor-free head's boxes, in cells.
        oriented: predict an angle too, as `AngleCoder` codes it.

    forward(maps): list of [B, in_channels, H, W] gives a list of [B, A * (4 + 1 + C), H, W],
    anchor-major: x, y, w, h as `decode_dense` reads them (codec "grid" without anchors, "yolo" with
    them), objectness logit, class logits; and with `oriented` the angle's four numbers.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        anchors_per_cell: int | None = None,
        width: int = 64,
        depth: int = 1,
        typical_size: float = 4.0,
        oriented: bool = False,
    ) -> None:
        super().__init__()
        self.anchors = anchors_per_cell or 1
        self.box_branch = _branch(in_channels, width, depth)
        self.class_branch = _branch(in_channels, width, depth)
        self.box = prediction_conv(width, self.anchors * 4)
        self.objectness = prediction_conv(width, self.anchors)
        self.classes = prediction_conv(width, self.anchors * num_classes)
        self.angle = prediction_conv(width, self.anchors * CODE_VALUES) if oriented else None
        if anchors_per_cell is None:
            # an untrained head proposes a square of `typical_size` in the middle of every cell; one
            # with anchors, whose biases of 0 mean the middle and the anchor's own size, needs none
            start = torch.tensor((0.5, 0.5, typical_size, typical_size))
            start[2:].log_()
            self.box.bias.data.copy_(start)  # type: ignore[union-attr]
        nn.init.constant_(self.objectness.bias, prior_bias(0.01))  # type: ignore[arg-type]
        nn.init.constant_(self.classes.bias, prior_bias(0.1))  # type: ignore[arg-type]
        if self.angle is not None:
            start = torch.tensor(CODE_OF_ZERO).repeat(self.anchors)
            self.angle.bias.data.copy_(start)  # type: ignore[union-attr]

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Raw predictions [B, A * (5 + C), H, W] of each map, A * (9 + C) of oriented boxes."""
        out = []
        for m in maps:
            place, name = self.box_branch(m), self.class_branch(m)
            parts = [self.box(place), self.objectness(place), self.classes(name)]
            if self.angle is not None:
                parts.append(self.angle(place))
            split = [part.unflatten(1, (self.anchors, -1)) for part in parts]
            out.append(torch.cat(split, dim=2).flatten(1, 2))
        return out


class BoxHead(nn.Module):
    """Convolutions, if any, and fully connected layers over pooled regions (Lin et al., FPN, 2017).

    Args:
        in_channels, pooled_size: of the regions: [R, in_channels, pooled_size, pooled_size].
        num_classes: classes K, the background (class 0) counted.
        convs: how many 3x3 convolutions with batch norm come first, of in_channels each.
        layers, width: how many fully connected layers follow, and how wide they are.
        box_values: V, numbers of a box's deltas: 4, or 5 with a turn.

    forward(regions) gives class logits [R, K] and deltas [R, K * V], class-major.
    """

    def __init__(
        self,
        in_channels: int,
        pooled_size: int,
        num_classes: int,
        *,
        convs: int = 0,
        layers: int = 2,
        width: int = 256,
        box_values: int = 4,
    ) -> None:
        super().__init__()
        self.hidden, features = _region_layers(in_channels, pooled_size, convs, layers, width)
        self.logits = nn.Linear(features, num_classes)
        self.deltas = nn.Linear(features, num_classes * box_values)
        _start_small(self.logits, 0.01)
        _start_small(self.deltas, 0.001)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [R, C] and deltas [R, C * V] of pooled regions [R, channels, side, side]."""
        hidden = self.hidden(regions)
        return self.logits(hidden), self.deltas(hidden)


class OrientingHead(nn.Module):
    """`BoxHead`'s layers, and one oriented box of each upright region, whatever its class.

    The RoI learner of RoI Transformer (Ding et al., CVPR 2019). Arguments as of `BoxHead`.

    forward(regions) gives [R, 8], as `OrientingCoder` reads them. An untrained head says 0 degrees.
    """

    def __init__(
        self,
        in_channels: int,
        pooled_size: int,
        *,
        convs: int = 0,
        layers: int = 2,
        width: int = 256,
    ) -> None:
        super().__init__()
        self.hidden, features = _region_layers(in_channels, pooled_size, convs, layers, width)
        self.values = nn.Linear(features, 4 + CODE_VALUES)
        _start_small(self.values, 0.001)
        self.values.bias.data[4:] = torch.tensor(CODE_OF_ZERO)

    def forward(self, regions: Tensor) -> Tensor:
        """Values [R, 8] of pooled regions [R, channels, side, side]."""
        out: Tensor = self.values(self.hidden(regions))
        return out


class ClassifierHead(nn.Module):
    """Global average pooling, a hidden layer if one is wanted, dropout and one linear layer.

    width: of the hidden layer with its Hardswish (Howard et al., MobileNetV3, 2019); None: none.

    forward(features): [B, in_channels, H, W] gives class logits [B, num_classes].
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden = nn.Sequential()
        if width is not None:
            self.hidden.extend((nn.Linear(in_channels, width), nn.Hardswish()))
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(width or in_channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, C] of a map [B, channels, H, W]."""
        return self.logits(self.dropout(self.hidden(features.mean(dim=(2, 3)))))


def _region_layers(
    in_channels: int, pooled_size: int, convs: int, layers: int, width: int
) -> tuple[nn.Sequential, int]:
    """The layers of a head over pooled regions, and how many features they give."""
    hidden: list[nn.Module] = [conv_norm_act(in_channels, in_channels) for _ in range(convs)]
    hidden.append(nn.Flatten())
    features = in_channels * pooled_size**2
    for _ in range(layers):
        hidden += (nn.Linear(features, width), nn.ReLU())
        features = width
    return nn.Sequential(*hidden), features


def _start_small(layer: nn.Linear, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)


def _prediction(in_channels: int, out_channels: int, depthwise_norm: Norm | None) -> nn.Module:
    if depthwise_norm is None:
        return prediction_conv(in_channels, out_channels, 3)
    return nn.Sequential(
        conv_norm_act(
            in_channels, in_channels, norm=depthwise_norm, activation=nn.ReLU6, groups=in_channels
        ),
        prediction_conv(in_channels, out_channels),
    )


def _branch(in_channels: int, width: int, depth: int) -> nn.Sequential:
    # group norm: the levels share the weights but not their statistics
    return nn.Sequential(
        *(
            conv_norm_act(
                in_channels if i == 0 else width, width, 3, norm=group_norm, activation=nn.SiLU
            )
            for i in range(depth)
        )
    )
