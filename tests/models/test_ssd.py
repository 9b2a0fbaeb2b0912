from collections.abc import Callable

import torch
from torch import Tensor

from detcore.models import create
from detcore.parts.anchors import grid_anchors


def test_learns_pictures_by_heart(
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create("ssd", 4, image_size=128)
    assert fit(model, *scenes, steps=60) < 0.05
    assert_all_found(model, *scenes)


def test_every_level_has_its_anchors_and_the_map_its_rows() -> None:
    model = create("ssd", 4, image_size=128, extra_levels=(32, 32)).eval()
    batch = model.preprocess([torch.zeros(3, 128, 128)])
    logits, deltas = model.predict(model.backbone(batch.images))
    levels = zip(logits, deltas, model.anchors(logits, batch), model.strides, strict=True)
    for m, d, (anchors, stride), nominal in levels:
        count = len(grid_anchors(anchors, (m.shape[2], m.shape[3]), stride))
        assert m[0].numel() == count * 4
        assert d[0].numel() == count * 4
        assert stride == (nominal, nominal)
