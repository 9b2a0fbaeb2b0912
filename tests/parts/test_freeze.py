import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from detcore.models import Classifier
from detcore.parts.freeze import hold_backbone, hold_norms


def test_held_norms_stay_and_all_else_trains() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        BatchNormAct2d(4, drop_layer=nn.Dropout),
        nn.GroupNorm(2, 4),
    )
    names = list(net.state_dict())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    hold_norms(net.train())
    assert net[2].drop.training  # modules inside the norm that are not norms don't change
    assert {n for n, p in net.named_parameters() if p.requires_grad} == {
        "0.weight",
        "0.bias",
        "3.weight",
        "3.bias",
    }
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    after = net.state_dict()
    assert list(after) == names  # a checkpoint also fits a model with trainable norms
    assert all(torch.equal(before[k], after[k]) for k in names)
    net.train()  # undoes half of it
    net(torch.rand(2, 3, 8, 8))
    assert not torch.equal(net.state_dict()["1.running_mean"], before["1.running_mean"])


def test_a_held_backbone_stays_and_the_head_learns() -> None:
    net = Classifier(3, backbone="test_resnet", image_size=32)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    hold_backbone(net.train())
    images = [torch.rand(3, 32, 32) for _ in range(4)]
    net(images, [{"label": torch.tensor(k % 3)} for k in range(4)])["loss_class"].backward()
    torch.optim.SGD(net.parameters(), lr=1.0, weight_decay=0.5).step()
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"head.logits.weight", "head.logits.bias"}
    with pytest.raises(ValueError, match="Sequential has no backbone to freeze"):
        hold_backbone(nn.Sequential())
