"""roi_align_rotated's rival takes the same samples: another way to the same numbers."""

import torch

from detcore import ops
from detcore.bench.ops.roi_align_rotated import by_grid_sample
from tests.ops.test_roi_align import map_for
from tests.ops.test_roi_align_rotated import turned_rois


def test_grid_sample_gives_the_same() -> None:
    input, rois = map_for((2, 6, 30, 25)), turned_rois(2, 40, 100)
    got = ops.roi_align_rotated(input, rois, 7, 0.25, 2)
    torch.testing.assert_close(got, by_grid_sample(input, rois, 7, 0.25, 2), rtol=1e-9, atol=1e-9)
