"""Files that are written whole or not at all, with the rights that the user's umask gives."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from detcore.utils.errors import WriteError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, in the same folder; renamed to `path` when the block ends well.

    Raises:
        WriteError: the system can't write it, since the disk is full, say; what was there is whole.
    """
    # The suffix is kept: what a writer makes may hang on it. The process id keeps two runs apart
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        aside.touch()
        rights = aside.stat().st_mode & 0o777  # as the umask has it; some writers take 0600
        yield aside
        with aside.open("rb+") as stream:
            os.fsync(stream.fileno())  # else a power cut can leave the new name with no content
        aside.chmod(rights)
        aside.replace(path)
    except WriteError:
        raise
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        with suppress(OSError):  # its folder can't be written: nothing is there then
            aside.unlink(missing_ok=True)


def unwritten(path: Path, error: Exception) -> WriteError:
    """The error for a file that can't be written, which says what of it is left."""
    before = "what was there before is whole" if path.exists() else "nothing was written"
    reason = getattr(error, "strerror", None) or str(error)
    return WriteError(f"{path}: can't be written ({reason}); {before}")


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed writers of files of these names left in a folder, and nothing else."""
    for name in names:
        path = Path(name)
        left = re.compile(rf"\.{re.escape(path.stem)}\.\d+{re.escape(path.suffix)}")
        for aside in folder.iterdir():
            if left.fullmatch(aside.name):
                aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, whole or not at all; names that are none are written as the system gave them."""
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV after RFC 4180, whole or not at all: any text in it reads back equal."""
    with (
        atomic(path) as aside,
        aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        csv.writer(stream).writerows(rows)
