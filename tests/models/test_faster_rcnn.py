from collections.abc import Callable

from torch import Tensor

from detcore.models import create


def test_learns_pictures_by_heart(
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create("faster_rcnn", 4, image_size=128, proposals=50, box_samples=32)
    assert fit(model, *scenes, steps=200) < 0.05
    assert_all_found(model, *scenes)
