"""Boxes and frame rates that are impossible in a picture or format."""

import time

import numpy as np
import pytest
import torch

from detcore.inference.draw import draw_boxes
from detcore.inference.input_sources import Frame
from detcore.inference.output_writer import Gallery


@pytest.mark.parametrize("far", [1e30, 1e308, float("inf")])
def test_a_box_beyond_all_bounds_is_drawn_at_once(far):
    image = torch.zeros(3, 48, 64)
    started = time.perf_counter()
    drawn = draw_boxes(image, [((-far, 5, far, far), "x", (255, 0, 0))], enlarge=False)
    assert time.perf_counter() - started < 5
    assert np.asarray(drawn).any()


def test_a_rate_that_the_format_does_not_take(tmp_path, caplog):
    cv2 = pytest.importorskip("cv2")
    out = tmp_path / "film.mp4"
    image = torch.zeros(3, 480, 640, dtype=torch.uint8)
    with Gallery(out, ["x"], pictures=1, videos=1) as gallery:
        for number in range(3):
            gallery.add(Frame("film", image, number, 239.823), {"detections": []})
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == pytest.approx(239.82)
    assert "written at 239.82 frames per second for 239.823" in caplog.text
