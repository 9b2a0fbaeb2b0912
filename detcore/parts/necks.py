"""Necks: from a backbone's maps to the maps that heads read."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.parts.layers import L2Norm, Norm, conv_norm_act, group_norm


class FPN(nn.Module):
    """Feature pyramid (Lin et al., Feature Pyramid Networks, CVPR 2017).

    Args:
        in_channels: channels of each input map, finest first.
        channels: channels of every output map.
        norm: follows every convolution; None gives the paper's plain convolutions with bias.
        pool_last: add one map of half the coarsest's resolution by subsampling, for an RPN.

    forward(maps): list of [B, in_channels[i], H_i, W_i] gives a list of [B, channels, H_i, W_i],
    and the pooled one. `strides_of(strides)` tells the strides of what comes out.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        norm: Norm | None = nn.BatchNorm2d,
        pool_last: bool = False,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            conv_norm_act(c, channels, 1, norm=norm, activation=None) for c in in_channels
        )
        self.out = nn.ModuleList(
            conv_norm_act(channels, channels, 3, norm=norm, activation=None) for _ in in_channels
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
        self.pool_last = pool_last
        self.channels = (channels,) * (len(in_channels) + pool_last)

    def strides_of(self, strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the result's maps, given those of the inputs; pixels."""
        return tuple(strides) + ((strides[-1] * 2,) if self.pool_last else ())

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The pyramid [B, channels, H_i, W_i] of maps [B, C_i, H_i, W_i], finest first."""
        inner = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for i in range(len(inner) - 2, -1, -1):
            # to the finer map's size, not by 2: odd sizes don't double back
            inner[i] = inner[i] + F.interpolate(inner[i + 1], size=inner[i].shape[-2:])
        out = [conv(m) for conv, m in zip(self.out, inner, strict=True)]
        if self.pool_last:
            out.append(F.max_pool2d(out[-1], kernel_size=1, stride=2))
        return out


Level = int | tuple[int, int, int, int]  # channels; or middle and out channels, kernel, stride


class ExtraLevels(nn.Module):
    """Further maps beyond a backbone's last, each coarser than the one before (Liu et al., 2016).

    Args:
        in_channels: channels of the backbone's last map.
        levels: of each further map its channels c; or (middle, c, kernel, stride): a 1x1
            convolution to the middle channels, then one to c, of which stride 2 is padded and
            stride 1 is not, as SSD's last maps are made. A bare c stands for (c / 2, c, 3, 2).
        norm: of every convolution; None: biases instead, as in the paper. Group norm is the
            default because these maps shrink to 1x1, where one image has no batch statistics.
        activation: after every norm.
        depthwise: the second convolution is a depthwise one and a 1x1 (SSDLite; Sandler et al.,
            MobileNetV2, 2018).

    forward(maps): the maps [B, C_i, H_i, W_i] come back with the further ones behind them; with
    stride 2 a map of H cells gives ceil(H / 2).
    """

    def __init__(
        self,
        in_channels: int,
        levels: Sequence[Level],
        *,
        norm: Norm | None = group_norm,
        activation: type[nn.Module] = nn.ReLU,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        conv = partial(conv_norm_act, norm=norm, activation=activation)
        self.levels = nn.ModuleList()
        for level in levels:
            middle, out, kernel, stride = extra_level(level)
            padding = kernel // 2 if stride > 1 else 0
            if depthwise:
                last = [
                    conv(middle, middle, kernel, stride, groups=middle, padding=padding),
                    conv(middle, out, 1),
                ]
            else:
                last = [conv(middle, out, kernel, stride, padding=padding)]
            self.levels.append(nn.Sequential(conv(in_channels, middle, 1), *last))
            in_channels = out

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The given maps, and behind them the coarser ones that are added."""
        maps = list(maps)
        for level in self.levels:
            maps.append(level(maps[-1]))
        return maps


def extra_level(level: Level) -> tuple[int, int, int, int]:
    """Middle and out channels, kernel and stride of one of `ExtraLevels`'s levels."""
    if isinstance(level, int):
        return level // 2, level, 3, 2
    middle, out, kernel, stride = level
    return middle, out, kernel, stride


class VGGTop(nn.Module):
    """What SSD puts on VGG (Liu et al., 2016, section 3.1) before its extra levels.

    The first map is L2-normalised; the last goes through a pooling of stride 1 and VGG's two fully
    connected layers as convolutions, the first dilated by 6 so that it sees as far as they did.

    in_channels: of the maps; width: of the two layers. forward(maps) gives as many maps.
    """

    def __init__(self, in_channels: Sequence[int], width: int = 1024) -> None:
        super().__init__()
        self.first_norm = L2Norm(in_channels[0])
        self.fc6 = conv_norm_act(in_channels[-1], width, 3, norm=None, dilation=6)
        self.fc7 = conv_norm_act(width, width, 1, norm=None)
        self.channels = (*in_channels[:-1], width)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """VGG's maps with the first one normalised and fc6 and fc7 applied to the last."""
        first, *middle, last = maps
        last = self.fc7(self.fc6(F.max_pool2d(last, 3, stride=1, padding=1)))
        return [self.first_norm(first), *middle, last]


class PAN(nn.Module):
    """A pyramid read down and up again (Liu et al., Path Aggregation Network, CVPR 2018), small.

    Maps are joined by concatenation, as in the YOLO family, and every join is one 3x3 convolution.

    in_channels: channels of each input map, finest first; channels: of every output map.
    forward(maps): list of [B, in_channels[i], H_i, W_i] gives a list of [B, channels, H_i, W_i].
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        steps = len(in_channels) - 1
        silu = nn.SiLU

        def join() -> nn.Module:
            return conv_norm_act(2 * channels, channels, 3, activation=silu)

        self.lateral = nn.ModuleList(
            conv_norm_act(c, channels, 1, activation=silu) for c in in_channels
        )
        self.down_join = nn.ModuleList(join() for _ in range(steps))
        self.halve = nn.ModuleList(
            conv_norm_act(channels, channels, 3, 2, activation=silu) for _ in range(steps)
        )
        self.up_join = nn.ModuleList(join() for _ in range(steps))
        self.channels = (channels,) * len(in_channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps [B, channels, H_i, W_i] that saw both finer and coarser ones, finest first."""
        out = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for i in range(len(out) - 2, -1, -1):
            coarse = F.interpolate(out[i + 1], size=out[i].shape[-2:])
            out[i] = self.down_join[i](torch.cat((out[i], coarse), 1))
        for i in range(1, len(out)):
            fine = self.halve[i - 1](out[i - 1])
            if fine.shape[-2:] != out[i].shape[-2:]:  # the backbone left out a stride between
                fine = F.interpolate(fine, size=out[i].shape[-2:])
            out[i] = self.up_join[i - 1](torch.cat((out[i], fine), 1))
        return out
