import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder as TorchvisionBoxCoder

from detcore.parts.box_coder import BoxCoder

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]


def boxes(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 100
    return torch.cat((corner, corner + 1 + torch.rand(n, 2, generator=generator) * 50), dim=1)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("n", [0, 1, 37])
def test_encode_and_decode_are_torchvisions(n: int, weights: tuple[float, ...]) -> None:
    gt, anchors = boxes(n, 0), boxes(n, 1)
    ours, theirs = BoxCoder(weights), TorchvisionBoxCoder(weights)
    deltas = ours.encode(gt, anchors)
    torch.testing.assert_close(deltas, theirs.encode_single(gt, anchors))
    torch.testing.assert_close(ours.decode(deltas, anchors), gt, rtol=1e-4, atol=1e-3)
    several = torch.randn(n, 12)
    torch.testing.assert_close(
        ours.decode(several, anchors), theirs.decode_single(several, anchors), rtol=1e-4, atol=1e-3
    )


def test_sizes_are_clipped_as_in_torchvision() -> None:
    deltas = torch.tensor([[0.0, 0.0, 80.0, 80.0]])
    side = BoxCoder().decode(deltas, torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    assert (side[0, 2] - side[0, 0]).item() == pytest.approx(16 * math.exp(math.log(1000 / 16)))


def test_senseless_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be 4 positive numbers, got \[1, 1, 0, 1\]"):
        BoxCoder((1, 1, 0, 1))
