import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detcore.parts.necks import FPN, PAN, ExtraLevels

CHANNELS = (8, 12, 20)


def maps(sizes: tuple[tuple[int, int], ...] = ((11, 14), (6, 7), (3, 4))) -> list[Tensor]:
    pairs = zip(CHANNELS, sizes, strict=True)
    return [torch.randn(2, c, *s) for c, s in pairs]


def test_fpn_without_norm_is_torchvisions() -> None:
    ours = FPN(CHANNELS, 16, norm=None, pool_last=True)
    theirs = FeaturePyramidNetwork(list(CHANNELS), 16, extra_blocks=LastLevelMaxPool())
    for i in range(3):
        for mine, other in ((ours.lateral, theirs.inner_blocks), (ours.out, theirs.layer_blocks)):
            mine[i].load_state_dict(other[i].state_dict())
    x = maps()
    wanted = theirs({str(i): m for i, m in enumerate(x)}).values()
    for got, want in zip(ours(x), wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("pool_last", [False, True])
def test_fpn_publishes_its_channels_and_strides(pool_last: bool) -> None:
    neck = FPN(CHANNELS, 16, pool_last=pool_last)
    out = neck(maps())
    assert [m.shape[1] for m in out] == list(neck.channels)
    assert neck.strides_of((8, 16, 32)) == (8, 16, 32, 64)[: len(out)]


def test_extra_levels_halve_down_to_one_cell_with_one_image() -> None:
    neck = ExtraLevels(20, (16, 8, 8)).train()
    out = neck([torch.randn(1, 12, 6, 8), torch.randn(1, 20, 3, 4)])
    assert [tuple(m.shape[1:]) for m in out] == [
        (12, 6, 8), (20, 3, 4), (16, 2, 2), (8, 1, 1), (8, 1, 1),
    ]  # fmt: skip
    assert all(m.isfinite().all() for m in out)


def test_extra_levels_leave_the_given_list_alone() -> None:
    given = [torch.randn(1, 20, 4, 4)]
    ExtraLevels(20, (8,))(given)
    assert len(given) == 1


def test_pan_passes_what_the_coarsest_and_the_finest_saw_to_every_level() -> None:
    neck = PAN(CHANNELS, 16).eval()
    x = maps(((12, 16), (6, 8), (3, 4)))
    out = neck(x)
    assert [m.shape for m in out] == [(2, 16, 12, 16), (2, 16, 6, 8), (2, 16, 3, 4)]
    for touched in (0, 2):
        changed = [m + 1 if i == touched else m for i, m in enumerate(x)]
        assert all((a - b).abs().max() > 1e-4 for a, b in zip(neck(changed), out, strict=True))


@pytest.mark.parametrize("neck", [FPN(CHANNELS, 16), PAN(CHANNELS, 16)])
def test_every_weight_gets_a_gradient(neck: nn.Module) -> None:
    sum(m.square().mean() for m in neck(maps(((12, 16), (6, 8), (3, 4))))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in neck.parameters())
