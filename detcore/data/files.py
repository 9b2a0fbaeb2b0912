"""The files of a data set: which count, and each folder walked once.

Hidden entries and what systems leave in folders are no data, in any reader. Whether a file that an
annotation names is there is asked of os.path, which says no to a name that no system takes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from detcore.data.images import IMAGE_SUFFIXES

_SYSTEM = frozenset(
    ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
    + ("Thumbs.db", "desktop.ini", "__pycache__")
)
# what lies beside pictures without being one
_NO_PICTURES = (
    *(".txt", ".xml", ".json", ".jsonl", ".csv", ".yaml", ".yml", ".names", ".data", ".cfg"),
    *(".md", ".html", ".pdf", ".cache", ".npy", ".npz", ".pkl", ".mat", ".log", ".sh", ".py"),
)

log = logging.getLogger(__name__)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: hidden, or a system's own."""
    return name.startswith(".") or name in _SYSTEM


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, to judge by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path.name)


def files_in(root: Path, *patterns: str) -> list[Path]:
    """What matches under a folder, pattern by pattern, each by name; nothing hidden."""
    return [
        path
        for pattern in patterns
        for path in sorted(root.glob(pattern))
        if not any(map(is_hidden, path.relative_to(root).parts))
    ]


def folders_in(root: Path) -> list[Path]:
    """The folders in a folder, by name; nothing hidden."""
    return [path for path in files_in(root, "*") if path.is_dir()]


def walk(root: Path) -> Iterator[Path]:
    """All files under a folder at any depth, folder by folder, by name; nothing hidden.

    Links to folders are followed, each folder once: one that leads upward leads nowhere new.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            entries = sorted(e for e in folder.iterdir() if not is_hidden(e.name))
        except OSError as error:
            log.warning("%s: not readable (%s); left out", folder, error.strerror)
            continue
        if (key := (status.st_dev, status.st_ino)) in seen:
            continue
        seen.add(key)
        inside = []
        for entry in entries:
            if entry.is_dir():
                inside.append(entry)
            else:
                yield entry
        waiting += reversed(inside)


def pictures_under(root: Path) -> list[Path]:
    """The pictures under a folder at any depth, by path; what looks like another's is told of."""
    pictures, others = [], []
    for file in walk(root):
        if is_picture(file):
            pictures.append(file)
        elif file.suffix.lower() not in _NO_PICTURES:
            others.append(file)
    tell_of_others(root, others)
    return sorted(pictures)


def tell_of_others(root: Path, others: list[Path]) -> None:
    """Say how many files of a folder are of no kind that is read, and the first by name."""
    if others:
        count = f"{len(others)} files are" if len(others) > 1 else "1 file is"
        log.warning(
            "%s: %s of no kind that is read as a picture and left out, the first is %s",
            root,
            count,
            others[0].relative_to(root),
        )
