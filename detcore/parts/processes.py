"""What processes that train one model together must agree on. Alone each function does nothing."""

import torch
from torch import Tensor, distributed


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of every process's `values`, on all of them alike; without processes as given.

    Every process must call it equally often, with one shape and dtype. No gradient.
    """
    if _processes() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total


def loss_normalizer(count: int | Tensor, device: torch.device) -> int | Tensor:
    """What a sum over `count` samples is divided by: the count, at least 1.

    With W processes, a W-th of the count of all processes together, at least 1/W, float32: where
    `DistributedDataParallel` then takes the mean of the W gradients, it is the gradient of the one
    loss over the samples of all, however unevenly they lie on the processes. Every process must
    call it, also with a count of 0.
    """
    world = _processes()
    if world == 1:
        return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
    total = torch.as_tensor(count, dtype=torch.float32, device=device)
    return sum_over_processes(total).clamp(min=1) / world


def _processes() -> int:
    alone = not (distributed.is_available() and distributed.is_initialized())
    return 1 if alone else distributed.get_world_size()
