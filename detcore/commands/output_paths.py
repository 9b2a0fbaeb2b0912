"""Where commands write: what can't be written there, or mustn't be, is said before any work."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from detcore.data.loading.registry import named
from detcore.utils.errors import UsageError


def check_outputs(
    *,
    files: Mapping[str, Path | None],
    folders: Mapping[str, Path | None],
    inputs: Iterable[Path],
) -> None:
    """Raise UsageError unless every output can be written and none is an input or another output.

    Args:
        files, folders: by the option that names them; None where it wasn't given. They and the
            folders above them need not be there; nothing is made.
        inputs: files that are to be read.
    """
    read = list(inputs)
    written: dict[Path, str] = {}
    for option, path in files.items():
        if path is not None:
            _check_place(option, path, "file")
            check_not_read(option, [path], read)
            if (other := written.setdefault(path.resolve(), option)) != option:
                raise UsageError(f"{other} and {option} are both {path}")
    for option, path in folders.items():
        if path is not None:
            _check_place(option, path, "folder")


def inputs_of(*given: str | Path | None, data: str | None) -> list[Path]:
    """What a command's options name that is read: files and folders, and ``--data``."""
    files = [Path(path) for path in given if path is not None]
    return files if data is None else [*files, named(data)[1]]


def check_not_read(option: str, written: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise UsageError if a file that is to be written is one that is to be read."""
    read = {path.resolve() for path in inputs}
    for path in written:
        if path.resolve() in read:
            raise UsageError(f"{option} would overwrite the input {path}; give another place")


def _check_place(option: str, path: Path, wanted: str) -> None:
    if path.exists():
        kind = "folder" if path.is_dir() else "file" if path.is_file() else "device"
        if kind != wanted:
            raise UsageError(f"{option} {path} is a {kind}, wanted a {wanted}")
    above = path if path.is_dir() else path.parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise UsageError(f"{option} {path}: {above} is a file, wanted a folder")
    try:
        # rights alone don't tell: a file system may be read-only, or hold no files at all
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise UsageError(f"{option} {path}: nothing can be written in {above}") from error
