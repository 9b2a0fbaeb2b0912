"""Mutations of a label and a result file in KITTI's form: figures, or one clear message."""

import json
import random
from pathlib import Path

from detcore.data import DataError
from detcore.evaluation.kitti_metrics import FIGURES, kitti_metrics
from detcore.evaluation.kitti_results import (
    kitti_label_files,
    kitti_result_files,
    read_kitti_labels,
    read_kitti_results,
)
from tests.fuzz.mutate import mutated

LABELS = """Car 0.00 0 1.85 387.63 181.54 423.81 223.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57
Pedestrian 0.00 0 -0.20 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01
DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10
"""
RESULTS = """Car -1 -1 1.8 387 181 424 223 1.6 1.8 3.7 -16.5 2.4 58.5 1.6 0.9
Pedestrian -1 -1 -0.2 712 143 810 308 1.9 0.5 1.2 1.8 1.5 8.4 0.1 0.8
Car -1 -1 -10 500 169 590 200 -1 -1 -1 -1000 -1000 -1000 -10 0.7
"""


class KittiResultsFuzz:
    """Cases in a folder. Each case restores the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sound = {root / "label_2/a.txt": LABELS, root / "results/a.txt": RESULTS}
        for file, text in self.sound.items():
            file.parent.mkdir()
            file.write_text(text)
        assert self.figures()["images"] == 1

    def case(self, rng: random.Random) -> None:
        """Run one case; raises AssertionError, or an exception of the evaluation."""
        file = rng.choice(list(self.sound))
        file.write_bytes(mutated(self.sound[file].encode(), rng))
        try:
            figures = self.figures()
        except DataError as error:
            said = str(error)
            assert said.startswith(str(self.root)), said  # it names the file
            return
        finally:
            file.write_text(self.sound[file])
        json.dumps(figures, allow_nan=False)
        for row in figures["per_class"]:
            for figure in FIGURES:
                for value in row[figure].values():
                    assert value is None or 0 <= value <= 1, (row["name"], figure, value)

    def figures(self):
        """Of the files as they are."""
        labels = kitti_label_files(str(self.root), None)
        results = kitti_result_files(self.root / "results", [name for name, _ in labels])
        return kitti_metrics(
            [read_kitti_labels(file) for _, file in labels],
            [read_kitti_results(file) for file in results],
        )
