import copy
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from detcore.parts import conv_fusion as fuse_module
from detcore.parts.conv_fusion import FusedConv2d, fuse

ACTIVATIONS = [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU]


def norm(channels: int, kind: type[nn.Module] = nn.BatchNorm2d, **options: Any) -> nn.Module:
    """A norm with random statistics and affine terms."""
    made = kind(channels, **options)
    made.running_mean.normal_()
    made.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        made.weight.uniform_(0.5, 2)
        made.bias.normal_()
    return made.eval()


def convs(module: nn.Module) -> list[FusedConv2d]:
    return [m for m in module.modules() if isinstance(m, FusedConv2d)]


def check(module: nn.Module, x: Tensor, *, fused: int, left: tuple[type[nn.Module], ...]) -> None:
    """Same values, the expected number of fused convolutions, and none of the removed types."""
    module.eval()
    with torch.no_grad():
        want = module(x)
        made = fuse(copy.deepcopy(module))
        got = made(x)
        again = made(x)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert torch.equal(got, again)
    assert len(convs(made)) == fused
    # ignore activations that belong to a fused convolution
    inside = {id(m) for conv in convs(made) for m in conv.modules()}
    assert not [m for m in made.modules() if isinstance(m, left) and id(m) not in inside]


@pytest.mark.parametrize("activation", [*ACTIVATIONS, nn.Mish, nn.Identity])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"stride": 2, "padding": (0, 2)},
        {"groups": 4, "padding": 1},
        {"dilation": 2, "padding": 2},
    ],
    ids=str,
)
def test_conv_norm_activation(activation: type[nn.Module], options: dict[str, Any]) -> None:
    module = nn.Sequential(nn.Conv2d(8, 16, 3, **options), norm(16), activation())
    known = activation is not nn.Mish  # oneDNN can't fuse Mish
    left = (nn.BatchNorm2d, activation) if known else (nn.BatchNorm2d,)
    check(module, torch.randn(2, 8, 13, 11), fused=1, left=left)


@pytest.mark.parametrize("kind", [FrozenBatchNorm2d, BatchNormAct2d])
def test_other_norms_are_folded(kind: type[nn.Module]) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), norm(8, kind))
    check(module, torch.randn(1, 3, 9, 9), fused=1, left=(kind, nn.ReLU))


class Residual(nn.Module):
    def __init__(self, add: Callable[[Tensor, Tensor], Tensor], last: Any) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1), norm(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), norm(8)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.add, self.last = add, last

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.drop(self.norm2(self.conv2(y)))
        return self.last(self.add(y, x))


@pytest.mark.parametrize("add", [operator.add, operator.iadd, torch.add, lambda y, x: x + y])
@pytest.mark.parametrize("last", [F.relu, torch.relu, lambda t: t.relu_(), lambda t: t, F.silu])
def test_sums_and_what_follows(add: Any, last: Any) -> None:
    module = Residual(add, last)
    check(module, torch.randn(2, 8, 9, 10), fused=2, left=(nn.BatchNorm2d, nn.ReLU))
    # the sum has no own node, unless it writes to a tensor that another node reads
    graph = fuse(copy.deepcopy(module).eval()).graph
    assert not [n for n in graph.nodes if n.target in (operator.add, operator.iadd, torch.add)]


@pytest.mark.parametrize(
    "add",
    [
        lambda y, x: y + 1,
        lambda y, x: torch.add(y, x, alpha=2),
        lambda y, x: y + x.mean((2, 3), keepdim=True),
        lambda y, x: y + y,
        lambda y, x: y * x,
        lambda y, x: y + torch.ones(()),
    ],
)
def test_other_sums_stay_what_they_are(add: Any) -> None:
    check(Residual(add, F.relu), torch.randn(2, 8, 9, 10), fused=2, left=(nn.BatchNorm2d,))


class Shared(nn.Module):
    """A result with two readers, and a convolution that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), norm(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y + self.conv(F.relu(self.norm(y)))


def test_what_several_read_is_kept() -> None:
    check(Shared(), torch.randn(1, 4, 5, 5), fused=2, left=(nn.Conv2d,))


class Listed(nn.Module):
    """A loop over the input, which tracing can't handle."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 4, 1), norm(4), nn.ReLU()) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([b(row[None]) for b, row in zip(self.blocks, x, strict=True)])


def test_children_are_fused_where_the_whole_cannot_be_traced() -> None:
    check(Listed(), torch.randn(2, 3, 6, 6), fused=2, left=(nn.BatchNorm2d, nn.ReLU))


def test_norms_that_a_convolution_does_not_precede_stay() -> None:
    module = nn.Sequential(norm(3), nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.ReLU())
    check(module, torch.randn(1, 3, 6, 6), fused=1, left=())
    assert len(convs(fuse(nn.Sequential(nn.Linear(3, 3))))) == 0


def test_padding_that_is_not_zeros_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), norm(4))
    check(module, torch.randn(1, 3, 6, 6), fused=0, left=())


def test_maps_of_other_sizes_batches_and_layouts() -> None:
    conv = nn.Conv2d(8, 16, 3, padding=1)
    fused = FusedConv2d(conv, None, nn.ReLU())
    with torch.no_grad():
        for shape in ((1, 8, 32, 32), (3, 8, 17, 5), (1, 8, 1, 1), (0, 8, 4, 4)):
            x = torch.randn(shape)
            for given in (x, x.contiguous(memory_format=torch.channels_last)):
                torch.testing.assert_close(fused(given), conv(x).relu(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_and_back(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(8, 16, 3, padding=1)
    fused = FusedConv2d(conv)
    x = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        want = fused(x)
        half = fused.to(dtype)(x.to(dtype))
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), want, atol=0.05, rtol=0.05)
        assert fused.to(torch.float32)(x).dtype == torch.float32


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_half_types_on_a_processor_without_them(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are computed in float32 and rounded once; one warning says that this is not faster."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
    monkeypatch.setattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", lambda: False)
    fuse_module._arithmetic.cache_clear()
    convs = [FusedConv2d(nn.Conv2d(8, 8, 3, padding=1), None, nn.ReLU()).to(dtype) for _ in "ab"]
    x, other = torch.randn(2, 8, 12, 9).to(dtype), torch.randn(2, 8, 12, 9).to(dtype)
    with torch.no_grad():
        for conv in convs:
            got = conv(x, other)
            y = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
            assert got.dtype == dtype
            spacing = torch.finfo(dtype).eps
            torch.testing.assert_close(got, (y + other).relu().to(dtype), atol=1e-6, rtol=spacing)
            torch.testing.assert_close(conv(x), y.relu().to(dtype), atol=1e-6, rtol=spacing)
    fuse_module._arithmetic.cache_clear()  # it caches the result of the fake processor
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert str(dtype).removeprefix("torch.") in said[0]


def test_an_input_that_wants_a_gradient_gets_it() -> None:
    conv = nn.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    (got,) = torch.autograd.grad(FusedConv2d(conv, None, nn.ReLU())(x).sum(), x)
    (want,) = torch.autograd.grad(conv(x).relu().sum(), x)
    torch.testing.assert_close(got, want)


def test_under_compile_and_autocast_it_is_torchs_own_convolution() -> None:
    fused = FusedConv2d(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU())
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        want = fused(x)
        compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), want)
        with torch.autocast("cpu", torch.bfloat16):
            assert fused(x).dtype == torch.bfloat16


@pytest.mark.skipif(not fuse_module._has_nnpack(), reason="this torch has no NNPACK")
def test_winograd_takes_large_maps_and_is_as_exact_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conv, other = nn.Conv2d(128, 128, 3, padding=1), torch.randn(2, 128, 64, 64)
    fused = FusedConv2d(conv, None, nn.ReLU())
    x = torch.randn(2, 128, 64, 64).contiguous(memory_format=torch.channels_last)
    calls = []
    run = torch._nnpack_spatial_convolution
    monkeypatch.setattr(
        torch, "_nnpack_spatial_convolution", lambda *a: (calls.append(1), run(*a))[1]
    )
    with torch.no_grad():
        want = (conv.double()(x.double()) + other).relu()
        fused(x, other)
        assert not calls
        fused.winograd = True
        got = fused(x, other)
        assert len(calls) == 2
        assert (got - want).abs().max() < 1e-5 * want.abs().max()
        assert torch.equal(got, fused(x, other))
        fused(x[:, :, :32], other[:, :, :32])  # a small map
        assert len(calls) == 4
