import pytest
import torch
from torch import nn

from detcore.parts.layers import conv_norm_act, group_norm, prediction_conv, prior_bias


@pytest.mark.parametrize("channels", [2, 6, 8, 16, 24, 96, 101])
def test_group_norm_takes_any_width(channels: int) -> None:
    norm = group_norm(channels)
    out = norm(torch.randn(1, channels, 1, 1))
    assert norm.num_groups <= 16
    assert out.abs().max() > 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_conv_norm_act_keeps_or_halves(kernel_size: int, stride: int) -> None:
    layer = conv_norm_act(3, 8, kernel_size, stride, activation=nn.SiLU)
    assert layer(torch.randn(2, 3, 9, 12)).shape == (2, 8, -(-9 // stride), 12 // stride)


def test_prediction_conv_says_its_bias_at_first() -> None:
    conv = prediction_conv(16, 4)
    assert conv(torch.randn(1, 16, 5, 5)).abs().max() < 0.5
    assert (conv.bias == 0).all()


def test_prior_bias_is_the_logit() -> None:
    assert torch.tensor(prior_bias(0.01)).sigmoid().item() == pytest.approx(0.01)
    with pytest.raises(ValueError, match=r"probability must be in \(0, 1\), got 1"):
        prior_bias(1)
