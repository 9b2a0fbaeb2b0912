"""The few layers that necks and heads share."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm (Wu & He, ECCV 2018) of at most 16 groups, each of 4 channels or more.

    It knows no batch statistics, so a batch of one image, or a 1x1 map, trains as any other, and
    one norm may serve pyramid levels of different statistics.
    """
    # a group of one channel on a 1x1 map would be one value, and its norm always 0
    most = max(min(16, channels // 4), 1)
    groups = next(g for g in range(most, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    *,
    norm: Norm | None = nn.BatchNorm2d,
    activation: type[nn.Module] | None = nn.ReLU,
    groups: int = 1,
    padding: int | None = None,
    dilation: int = 1,
) -> nn.Sequential:
    """Convolution, norm, activation: [B, in, H, W] to [B, out, ceil(H/stride), ceil(W/stride)].

    padding: None keeps a map's size at stride 1. Without a norm the convolution has a bias.
    """
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=dilation * (kernel_size // 2) if padding is None else padding,
        dilation=dilation,
        groups=groups,
        bias=norm is None,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    layers: list[nn.Module] = [conv]
    if norm is None:
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    else:
        layers.append(norm(out_channels))
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


class L2Norm(nn.Module):
    """Each cell's features at length 1, times a learnt scale per channel (Liu et al., SSD, 2016).

    SSD's first map is of another magnitude than the deeper ones. [B, channels, H, W] to the same.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], each pixel's channels divided by their L2 norm and scaled."""
        return self.scale.view(1, -1, 1, 1) * F.normalize(x)


def prediction_conv(
    in_channels: int, out_channels: int, kernel_size: int = 1, *, std: float = 0.01
) -> nn.Conv2d:
    """The last convolution of a head: small weights, so that the bias alone speaks at first."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(conv.weight, std=std)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def prior_bias(probability: float) -> float:
    """The logit whose sigmoid is `probability` (Lin et al., Focal Loss, ICCV 2017, section 4.1).

    Nearly all cells of a dense head are background; a head that says so from the first step on
    spends no steps on learning it. Raises ValueError unless 0 < probability < 1.
    """
    if not 0 < probability < 1:
        raise ValueError(f"prior_bias: probability must be in (0, 1), got {probability}")
    return math.log(probability / (1 - probability))
