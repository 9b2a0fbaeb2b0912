"""Labels and results of KITTI's object benchmark as files: one text per picture."""

from __future__ import annotations

import logging
from os.path import isfile
from pathlib import Path

from detcore.data.faults import DataError, Faults
from detcore.data.files import files_in
from detcore.data.loading.registry import named
from detcore.data.readers.kitti import is_kitti, label_files
from detcore.data.readers.kitti_labels import LABEL, RESULT, KittiObjects, parse_objects
from detcore.utils.text import counted
from detcore.utils.user_files import read_text

log = logging.getLogger(__name__)


def kitti_label_files(spec: str, split: str | None) -> list[tuple[str, Path]]:
    """The label files that results are to be held against, each with its picture's name.

    Args:
        spec: ``kitti:PATH``, or the path of a folder with ``label_2/`` in it or in its
            ``training/``. Pictures need not be there.
        split: as of `detcore.data.load`. None: ``val`` where ``ImageSets`` lists it, else all.

    Raises:
        DataError: no labels in KITTI's form there, or no such split.
    """
    form, path = named(spec)
    if form not in ("", "kitti") or not is_kitti(path):
        raise DataError(
            f"{spec}: no KITTI labels there (looked for label_2/*.txt here and in training/)"
        )
    # without a split all that isn't divided: it is given for evaluation
    return label_files(path, split or "val", None if split else 1.0)


def kitti_result_files(folder: Path, names: list[str]) -> list[Path]:
    """The result file of each picture, in the folder or in its ``data/``, as the devkit has it.

    Those of other pictures are not looked at, and how many these are is logged.

    Raises:
        DataError: no such folder, or a picture without a file; the text names it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of results")
    inside = folder / "data"
    base = inside if inside.is_dir() and not files_in(folder, "*.txt") else folder
    files = [base / f"{name}.txt" for name in names]
    if missing := [file for file in files if not isfile(file)]:
        more = f", and {len(missing) - 1} more are missing" if missing[1:] else ""
        raise DataError(
            f"{missing[0]}: no such file{more}; there must be one for each of the "
            f"{counted(len(files), 'picture', 'pictures')}, an empty one where nothing was found"
        )
    if others := len(set(files_in(base, "*.txt")) - set(files)):
        text = counted(others, "result file", "result files")
        log.warning("%s: %s of pictures that are not measured; left out", base, text)
    return files


def read_kitti_labels(file: Path) -> KittiObjects:
    """A label file, whole.

    Raises:
        DataError: it can't be read, or a line has less than 15 columns, or one that must be a
            finite number and is none.
    """
    return parse_objects(file, read_text(file).splitlines(), Faults(), LABEL)


def read_kitti_results(file: Path) -> KittiObjects:
    """A result file, whole.

    Raises:
        DataError: as of `read_kitti_labels`, with 16 columns: the last one is the score.
    """
    return parse_objects(file, read_text(file).splitlines(), Faults(), RESULT)
