"""Choosing the few anchors or proposals that a loss is taken over."""

import torch
from torch import Tensor


class BalancedSampler:
    """A fixed number of samples, of them at most a given share positive (Ren et al., 2015).

    Args:
        count: samples per image.
        positive_fraction: the share that may be positive. What positives are missing is filled
            with negatives, not the other way round: the rule of torchvision's
            BalancedPositiveNegativeSampler.
        generator: where the random choice comes from; None: torch's global one.

    __call__(labels, seed): int64 [N], 1 and above positive, 0 negative, below 0 ignored, gives
    (positive, negative), int64 indices into labels in ascending order. Deterministic under the
    generator's seed; with a seed given, which is read instead of the generator, the choice is a
    function of seed, labels and kind of device alone, whatever was drawn before.
    """

    def __init__(
        self, count: int, positive_fraction: float, generator: torch.Generator | None = None
    ) -> None:
        if count < 1 or not 0 <= positive_fraction <= 1:
            raise ValueError(
                "BalancedSampler: count must be at least 1 and positive_fraction in [0, 1], "
                f"got {count} and {positive_fraction}"
            )
        self.count = count
        self.positive_fraction = positive_fraction
        self.generator = generator

    def __call__(self, labels: Tensor, seed: int | None = None) -> tuple[Tensor, Tensor]:
        if labels.dim() != 1:
            raise ValueError(f"BalancedSampler: labels must be [N], got {list(labels.shape)}")
        generator = self.generator
        if seed is not None:
            generator = torch.Generator(labels.device).manual_seed(seed)
        most = int(self.count * self.positive_fraction)
        positive = _pick(torch.where(labels >= 1)[0], most, generator)
        negative = _pick(torch.where(labels == 0)[0], self.count - len(positive), generator)
        return positive, negative


def _pick(indices: Tensor, at_most: int, generator: torch.Generator | None) -> Tensor:
    if len(indices) <= at_most:
        return indices
    device = generator.device if generator is not None else indices.device
    order = torch.randperm(len(indices), generator=generator, device=device)
    return indices[order[:at_most].to(indices.device)].sort().values
