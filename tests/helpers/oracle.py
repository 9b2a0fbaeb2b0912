"""A detector that knows the ground truth and can return planted mistakes."""

import torch


class Oracle(torch.nn.Module):
    """Returns the ground truth, found by the sum of the pixels; `spoil` changes a result."""

    def __init__(self, dataset, answer, spoil=lambda a: a):
        super().__init__()
        self.known = {int(i.sum()): answer(t) for i, t in (dataset[k] for k in range(len(dataset)))}
        self.spoil = spoil

    def forward(self, images):
        assert all(i.dtype == torch.float32 and i.min() >= 0 and i.max() <= 1 for i in images)
        return [self.spoil(dict(self.known[round(float(i.double().sum()) * 255)])) for i in images]


def boxes_of(target):
    return {
        "boxes": target["boxes"],
        "labels": target["labels"],
        "scores": torch.linspace(0.9, 0.4, len(target["labels"])),
    }
