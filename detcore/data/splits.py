"""Which part of a data set is meant: one rule for all readers.

A set may have parts of its own, by folders, files or lists. ``train``, ``val`` and ``test`` go by
the names that people use, in any letter case. Where no part is for validation, a share of the
training part may be, by a hash of the pictures' names; the log says so.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from detcore.data.faults import NoSplit
from detcore.data.files import files_in, folders_in
from detcore.utils.text import counted
from detcore.utils.user_files import read_text

SPLITS = ("train", "val", "test")
VAL_SHARE = 0.2  # of the training pictures, where the data has none for validation
_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_BOTH = "trainval"  # VOC's: training and validation together

Entry = TypeVar("Entry")
log = logging.getLogger(__name__)


def split_names(split: str) -> tuple[str, ...]:
    """The names a split goes by in folders and files: val is also valid and validation."""
    return _NAMES.get(split.lower(), (split,))


def is_named(name: str, split: str) -> bool:
    """Whether a folder, file or column of this name is of a split, whatever the letter case."""
    return name.lower() in [known.lower() for known in split_names(split)]


def split_of(name: str) -> str | None:
    """The split that a name is of: train, val or test; None for any other name."""
    return next((split for split in SPLITS if is_named(name, split)), None)


def split_folders(root: Path) -> dict[str, Path]:
    """A set's folders by split, where every folder of it is one; else none.

    ``train/`` beside ``bus/`` are two classes: COCO itself has a class train.
    """
    folders = folders_in(root)
    named = {s: f for s in SPLITS for f in folders if is_named(f.name, s)}
    return named if folders and all(split_of(f.name) for f in folders) else {}


def part(
    own: Mapping[str, Sequence[Entry]],
    split: str,
    source: Path,
    *,
    name_of: Callable[[Entry], str],
    val_share: float | None = None,
) -> list[Entry]:
    """The entries of a split.

    Args:
        own: the set's own parts by their names, as it has them.
        split: its name. ``all`` takes every part's.
        source: the set's file or folder, as messages name it.
        name_of: of an entry the name that its side hangs on where parts are divided.
        val_share: of the training part that is held out where no part is for validation; None: a
            fifth of a set that isn't divided or of ``trainval``, nothing of a part ``train``.

    Raises:
        NoSplit: there is no such part; the text has those that there are.
    """
    if split == "all":
        return [entry for entries in own.values() for entry in entries]
    asked = split.lower()
    found = [e for name in own if is_named(name, split) for e in own[name]]
    is_there = any(is_named(name, split) for name in own)
    only = next(iter(own)) if len(own) == 1 else None
    if only is not None and split_of(only) is None and not is_there:
        # one list of everything, such as CVAT's default: not divided at all
        return _shared_out(own[only], split, source, name_of, val_share)
    has_val = any(is_named(name, "val") for name in own)
    if is_there and (asked != "train" or has_val):
        return found
    has_train = any(is_named(name, "train") for name in own)
    share = (0.0 if has_train else VAL_SHARE) if val_share is None else val_share
    if asked not in ("train", "val") or has_val or (asked == "val" and not 0 < share < 1):
        raise no_split(source, split, own)
    whole = [e for name in own if is_named(name, "train") for e in own[name]]
    whole = whole or [e for name in own if name.lower() == _BOTH for e in own[name]]
    if not whole and not has_train:
        raise no_split(source, split, own)
    return _shared_out(whole, asked, source, name_of, share if share < 1 else 0)


def _shared_out(
    entries: Sequence[Entry],
    split: str,
    source: Path,
    name_of: Callable[[Entry], str],
    val_share: float | None,
) -> list[Entry]:
    keep = set(hashed_split(map(name_of, entries), split, source, val_share))
    return [entry for entry in entries if name_of(entry) in keep]


def no_split(source: Path, split: str, there: Iterable[str], what: str = "") -> NoSplit:
    """The error for a split that a set has not; it ends with what works."""
    have = list(dict.fromkeys(there))
    advice = ""
    if have:
        named = split_of(have[0]) or have[0]
        advice = f" (there are {', '.join(have)}); choose one, such as --split {named}"
    lacking = f"{what} for split" if what else "split"
    return NoSplit(f"{source}: no {lacking} {split!r}{advice}")


def hashed_split(
    names: Iterable[str], split: str, source: Path, val_share: float | None = None
) -> list[str]:
    """Share names out where a data set has no split of its own, by default 80% train, 20% val.

    A name's side hangs on the name alone (CRC-32), so that adding files moves none of the others.
    ``all`` gives every name, and so does ``val`` where the share is 1: data that is for evaluation
    alone.

    Raises:
        NoSplit: any other split is asked for, or its share of the names is none.
    """
    names = list(names)
    val_share = VAL_SHARE if val_share is None else val_share
    if split == "all" or (split == "val" and val_share >= 1):
        return names
    if split == "train" and val_share <= 0:
        return names
    if split == "val" and val_share <= 0:
        raise NoSplit(f"{source}: it has no split 'val', and no share of it is held out for one")
    if split not in ("train", "val"):
        raise NoSplit(
            f"{source}: split must be train, val or all (the data has none of its own), "
            f"got {split!r}; --split all takes all of it"
        )
    share = [n for n in names if (_place(n) < val_share) == (split == "val")]
    if not share and split == "train":
        return names  # a few pictures may all fall to one side: there is nothing to hold out then
    if names and not share:
        raise NoSplit(
            f"{source}: split {split!r} has no pictures (the data has none of its own, and of its "
            f"{counted(len(names), 'picture', 'pictures')} a hash of the names gives it none); "
            f"--split all takes all of it"
        )
    if names:
        log.warning(
            "%s: no pictures set apart for validation; %s is %d of %d, by a hash of their names",
            source,
            split,
            len(share),
            len(names),
        )
    return share


def _place(name: str) -> float:
    """Where a name falls in 0..1; below a fifth where its CRC-32 divides by five."""
    number = zlib.crc32(name.encode("utf-8", "surrogateescape"))
    return (number % 5 + number / 2**32) / 5


def lists_in(folder: Path) -> dict[str, list[str]]:
    """The texts of a folder that list pictures, a part of the set each: names by the part's name.

    A second column, as VOC's lists of a class have it, is passed over.
    """
    return {
        file.stem: [line.split()[0] for line in read_text(file).splitlines() if line.strip()]
        for file in files_in(folder, "*.txt")
    }
