"""An oriented set written in DOTA's form, such as tiles that are to be cut once."""

from __future__ import annotations

from pathlib import Path, PurePath

from PIL import Image

from detcore.data.base import DetectionDataset, Record
from detcore.data.faults import DataError
from detcore.utils.atomic_write import atomic, write_text


def write_dota_set(data: DetectionDataset, folder: str | Path) -> None:
    """Write pictures to ``images/`` and objects to ``labelTxt/`` of a folder, which is made.

    `detcore.data.load` of the folder gives the same pictures and training targets, so that tiles
    (`TiledDetection`) are decoded by themselves. What is no target is left out: crowds, and so the
    parts of objects that a tile's border cuts off.

    Args:
        data: an oriented set; its transforms are not applied. A picture's name is its image's,
            folders in it made part of it, with ``.png``.
        folder: where to; it must not hold ``labelTxt/`` yet.

    Raises:
        DataError: the set is not oriented, the folder is a set already, two images have one name,
            or a class's name has a space, which parts the columns of such a file.
    """
    root = Path(folder)
    if not data.oriented:
        raise DataError("a set in DOTA's form is oriented; load this one with oriented=True")
    if (root / "labelTxt").exists():
        raise DataError(f"{root}: it holds labelTxt/ already; give a new folder")
    if spaced := [name for name in data.classes if name.split() != [name]]:
        raise DataError(f"{root}: DOTA's form has no class names with spaces, got {spaced[0]!r}")
    stems: dict[str, int] = {}
    for index in range(len(data)):
        stem = _stem(data.record(index))
        if stems.setdefault(stem, index) != index:
            raise DataError(f"{root}: two pictures would be {stem}.png")
    for name in ("images", "labelTxt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for stem, index in stems.items():
        pixels = data.image(index).permute(1, 2, 0).numpy()
        with atomic(root / "images" / f"{stem}.png") as file:
            Image.fromarray(pixels).save(file, "PNG")
        write_text(root / "labelTxt" / f"{stem}.txt", _lines(data.record(index), data.classes))


def _stem(record: Record) -> str:
    name = PurePath(record.file_name.replace("\\", "/"))
    return "_".join([*(p for p in name.parent.parts if p.strip("./")), name.stem])


def _lines(record: Record, classes: list[str]) -> str:
    assert record.corners is not None
    lines = []
    for corners, label, crowd, ignored in zip(
        record.corners.tolist(), record.labels, record.iscrowd, record.ignore, strict=True
    ):
        if not crowd:
            numbers = " ".join(map(repr, corners))
            lines.append(f"{numbers} {classes[int(label) - 1]} {int(ignored)}\n")
    return "".join(lines)
