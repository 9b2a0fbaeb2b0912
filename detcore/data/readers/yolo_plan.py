"""What a set in YOLO's form says of itself: classes, and where the pictures of each split are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import exists, isdir, isfile
from pathlib import Path
from typing import Any

from detcore.data.faults import DataError
from detcore.data.files import files_in, folders_in, is_picture, pictures_under
from detcore.data.splits import SPLITS, VAL_SHARE, is_named, part, split_of
from detcore.utils.user_files import read_text, read_yaml

YAML_SUFFIXES = (".yaml", ".yml")
_NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
_EVERYTHING = ""  # the name of a set that is not divided


@dataclass(frozen=True)
class Plan:
    """What a set says of itself.

    home: its folder, or its description's. base: names of pictures are from here. classes: their
    names. places: folders and lists of pictures by split. roots: where places may be from.
    keypoints: numbers behind each box.
    """

    home: Path
    base: Path
    classes: list[str]
    places: dict[str, list[str]]
    roots: Sequence[Path]
    keypoints: int = 0

    def pictures(self, split: str, val_share: float | None) -> list[Path]:
        """The pictures of a split, by name or in a list's order; see `detcore.data.splits`."""
        if val_share is None and set(self.places) == {"train"}:
            val_share = VAL_SHARE  # a description must name pictures to learn from, divided or not
        asked = [s for s in self.places if is_named(s, split)]
        if split == "all":
            # descriptions often name test pictures that nobody has
            asked = [s for s in self.places if self._is_there(s)]
        asked = asked or [s for s in self.places if s in ("train", _EVERYTHING)]
        own = {s: self._of(s) if s in asked else [] for s in self.places}
        name_of = lambda p: name_from(p, self.base)  # noqa: E731
        found = part(own, split, self.base, name_of=name_of, val_share=val_share)
        return list(dict.fromkeys(found))

    def _of(self, split: str) -> list[Path]:
        return [p for entry in self.places[split] for p in self._pictures(self._place(entry))]

    def _is_there(self, split: str) -> bool:
        return any(exists(place) for e in self.places[split] for place in self._candidates(e))

    def _place(self, entry: str) -> Path:
        tried = self._candidates(entry)
        for place in tried:
            if exists(place):
                return place
        looked = ", ".join(dict.fromkeys(map(str, tried)))
        raise DataError(f"{self.base}: {entry} is not there (looked for {looked})")

    def _candidates(self, entry: str) -> list[Path]:
        # Roboflow's exports name ../train/images for the train/images beside the description
        return [root / e for e in (entry, entry.removeprefix("../")) for root in self.roots]

    def _pictures(self, place: Path) -> list[Path]:
        """Those in a folder, at any depth, or those that a list names."""
        if isdir(place):
            return pictures_under(place)
        lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
        inside = place.resolve().is_relative_to(self.home.resolve())
        # a description from elsewhere must not have any file read for it
        if not inside and not all(is_picture(Path(line)) for line in lines):
            raise DataError(
                f"{place}: not read as a list of pictures: it is outside {self.home}, and not "
                f"every line of it names a picture"
            )
        return [self._listed(place, line) for line in lines]

    def _listed(self, listing: Path, line: str) -> Path:
        # from the list, or as Darknet has it from where it is started, or below CVAT's data/
        name = line.replace("\\", "/")
        inside = name.removeprefix("data/")
        beside, above = listing.parent, self.base.parent
        places = (beside / line, beside / name, self.base / name, above / name, self.base / inside)
        return next((p for p in places if isfile(p)), places[0])


def plan_of(root: Path, split: str = "train") -> Plan:
    """What a folder or a description says.

    split: that is asked for; a description may have others than train, val and test.

    Raises:
        DataError: nothing says what the classes are, or what does can't be read.
    """
    file = root if root.is_file() else description_in(root)
    if file is not None:
        return _described(file, split)
    data = _darknet(root)
    listing = listing_in(root) or (_near(root, data["names"]) if "names" in data else None)
    if listing is None:
        raise DataError(
            f"{root}: nothing says what the classes are (looked for names in a .yaml, "
            f"{', '.join(_NAME_FILES)})"
        )
    names = [line.strip() for line in read_text(listing).splitlines()]
    places = _listed_in(root, data) or _places_in(root)
    return Plan(root, root, [name for name in names if name], places, [root])


def description_in(root: Path) -> Path | None:
    """The first .yaml in a folder that has class names."""
    for file in sorted(f for s in YAML_SUFFIXES for f in files_in(root, f"*{s}")):
        try:
            if "names" in _mapping(file):
                return file
        except DataError:
            continue
    return None


def listing_in(root: Path) -> Path | None:
    """A folder's list of class names, one per line."""
    return next((root / n for n in _NAME_FILES if (root / n).is_file()), None)


def name_from(picture: Path, base: Path) -> str:
    """A picture's name, from `base` where it lies in there."""
    return str(picture.relative_to(base)) if picture.is_relative_to(base) else str(picture)


def _described(file: Path, split: str) -> Plan:
    said = _mapping(file)
    if "names" not in said:
        raise DataError(f"{file}: wanted a key names, as a set in YOLO's form has it")
    roots = [file.parent / str(said.get("path") or ""), file.parent]
    base = next(root for root in roots if isdir(root))
    places = {}
    for wanted in dict.fromkeys((*SPLITS, split)):
        entries: Any = next((said[n] for n in said if is_named(n, wanted) and said[n]), None)
        if entries is not None:
            places[wanted] = [str(e) for e in (entries if isinstance(entries, list) else [entries])]
    classes = _class_names(file, said["names"])
    numbers = _keypoints(file, said.get("kpt_shape"))
    return Plan(file.parent, base, classes, places or _places_in(base), roots, numbers)


def _mapping(file: Path) -> dict[str, Any]:
    said = read_yaml(file)
    return said if isinstance(said, dict) else {}


def _class_names(file: Path, names: Any) -> list[str]:
    if isinstance(names, dict):
        try:
            numbered = {int(k): v for k, v in names.items()}
        except ValueError:
            numbered = {}
        if len(numbered) != len(names) or sorted(numbered) != list(range(len(names))):
            raise DataError(
                f"{file}: names must count from 0 without gaps, got [{', '.join(names)[:200]}]"
            )
        names = [numbered[k] for k in range(len(numbered))]
    if not isinstance(names, list) or not names:
        raise DataError(
            f"{file}: names must be a list, or a mapping from 0 on, got {str(names)[:200]}"
        )
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise DataError(f"{file}: names must be words, got {str(wrong[0])[:200]}")
    return list(names)


def _keypoints(file: Path, shape: Any) -> int:
    """How many numbers stand behind a box: points times 2 (x, y) or 3 (and how visible)."""
    if shape is None:
        return 0
    try:
        points, each = (int(number) for number in shape)
    except (TypeError, ValueError):
        points = each = 0
    if points < 1 or each not in (2, 3):
        raise DataError(f"{file}: kpt_shape must be [points, 2 or 3], got {str(shape)[:200]}")
    return points * each


def _darknet(root: Path) -> dict[str, str]:
    """Keys and values of Darknet's obj.data, or another .data file."""
    for file in sorted(files_in(root, "*.data"), key=lambda f: f.name != "obj.data"):
        pairs = (line.partition("=") for line in read_text(file).splitlines())
        return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}
    return {}


def _near(root: Path, entry: str) -> Path | None:
    """A file that Darknet's paths name, which are from where it was started."""
    places = (root / entry, root.parent / entry, root / entry.removeprefix("data/"))
    return next((p for p in (*places, root / Path(entry).name) if isfile(p)), None)


def _listed_in(root: Path, data: dict[str, str]) -> dict[str, list[str]]:
    """A folder's lists of pictures by split: those of obj.data, else train.txt and its like."""
    named = {s: _near(root, data[key]) for key in data if (s := split_of(key))}
    places = {s: [str(file)] for s, file in named.items() if file is not None}
    for file in files_in(root, "*.txt"):
        split = split_of(file.stem)
        # it may as well hold the objects of a train.jpg
        if split and split not in places:
            first = next((line for line in read_text(file).splitlines() if line.strip()), "")
            if is_picture(Path(first.strip().replace("\\", "/"))):
                places[split] = [file.name]
    return {s: places[s] for s in SPLITS if s in places}


def _places_in(root: Path) -> dict[str, list[str]]:
    """Where the pictures are by custom."""
    places = {}
    for split in SPLITS:
        for folder in folders_in(root / "images") if (root / "images").is_dir() else []:
            if is_named(folder.name, split):
                places[split] = [f"images/{folder.name}"]
        for folder in folders_in(root):
            if is_named(folder.name, split) and (folder / "images").is_dir():
                places.setdefault(split, [f"{folder.name}/images"])
    return places or {_EVERYTHING: ["images" if (root / "images").is_dir() else "."]}
