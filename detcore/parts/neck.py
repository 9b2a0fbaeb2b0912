"""Necks: from a backbone's maps to the maps that heads read."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Norm, conv_norm_act, group_norm


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
        self.lateral = nn.ModuleList(_conv(c, channels, 1, norm) for c in in_channels)
        self.out = nn.ModuleList(_conv(channels, channels, 3, norm) for _ in in_channels)
        self.pool_last = pool_last
        self.channels = (channels,) * (len(in_channels) + pool_last)

    def strides_of(self, strides: Sequence[int]) -> tuple[int, ...]:
        return tuple(strides) + ((strides[-1] * 2,) if self.pool_last else ())

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        inner = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for i in range(len(inner) - 2, -1, -1):
            # to the finer map's size, not by 2: odd sizes don't double back
            inner[i] = inner[i] + F.interpolate(inner[i + 1], size=inner[i].shape[-2:])
        out = [conv(m) for conv, m in zip(self.out, inner, strict=True)]
        if self.pool_last:
            out.append(F.max_pool2d(out[-1], kernel_size=1, stride=2))
        return out


class ExtraLevels(nn.Module):
    """Further maps beyond a backbone's last, each of half the resolution (Liu et al., SSD, 2016).

    in_channels: channels of the backbone's last map; channels: of each further map. The 1x1
    convolution before each halves the width, as in the paper.

    forward(maps): the maps [B, C_i, H_i, W_i] come back with the further ones behind them; a map
    of H cells gives ceil(H / 2).
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for out in channels:
            # group norm: these maps shrink to 1x1, where one image has no batch statistics
            self.levels.append(
                nn.Sequential(
                    conv_norm_act(in_channels, out // 2, 1, norm=group_norm),
                    conv_norm_act(out // 2, out, 3, 2, norm=group_norm),
                )
            )
            in_channels = out

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = list(maps)
        for level in self.levels:
            maps.append(level(maps[-1]))
        return maps


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


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: Norm | None) -> nn.Module:
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm is None
    )
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if norm is None:
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        return conv
    return nn.Sequential(conv, norm(out_channels))
