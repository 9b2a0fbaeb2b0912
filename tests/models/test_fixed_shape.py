"""A whole detector in one graph."""

from pathlib import Path

import pytest
import torch

from detcore.models import FixedShape, optimize
from detcore.parts.postprocess import Detections

from .test_contract import small

DETECTORS = ["faster_rcnn", "faster_rcnn_oriented", "ssd", "yolo", "yolo_oriented"]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 80, 100, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", DETECTORS)
def test_it_finds_what_the_model_finds(name: str, images: torch.Tensor) -> None:
    model = small(name, score_threshold=0.1).eval()
    found = Detections(*FixedShape(model)(images)).per_image()
    with torch.no_grad():
        for one, other in zip(found, model(list(images)), strict=True):
            assert all(torch.equal(one[k], other[k]) for k in other)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in DETECTORS), ("yolo", {"one_to_one": True})]
)
def test_export_and_compile_take_it_whole(
    name: str, options: dict[str, bool], images: torch.Tensor, tmp_path: Path
) -> None:
    model = FixedShape(small(name, score_threshold=0.0, max_detections=30, **options))
    want = model(images)
    assert want[3].min() > 0
    torch.export.save(torch.export.export(model, (images,)), tmp_path / "model.pt2")
    exported = torch.export.load(tmp_path / "model.pt2").module()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for run in (exported, compiled):
        for value in (images, images.flip(3)):
            for one, other in zip(run(value), model(value), strict=True):
                torch.testing.assert_close(one, other)


def test_an_optimized_model_too(images: torch.Tensor) -> None:
    model = FixedShape(optimize(small("ssd", score_threshold=0.0)))
    exported = torch.export.export(model, (images,)).module()
    for one, other in zip(exported(images), model(images), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
