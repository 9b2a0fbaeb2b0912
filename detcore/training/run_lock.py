"""One training at a time in a folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from detcore.utils.errors import UserError

NAME = ".training.lock"

log = logging.getLogger(__name__)
_held: dict[Path, FileLock] = {}


class RunInUse(UserError):
    """Another training writes into a folder; the text names it."""


def hold(folder: Path) -> None:
    """Lock a folder, which is made, for this process; again as often as wanted.

    The system gives the lock up with the process, however that ends. The process id in the file is
    for the message alone: in containers every process is 1.

    Raises:
        RunInUse: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.resolve() / NAME
    lock = _held.get(file) or FileLock(str(file), timeout=0)
    owner = file.with_suffix(".owner")
    try:
        lock.acquire()
    except Timeout as error:
        said = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "another process"
        raise RunInUse(
            f"{folder}: a training writes here already ({said[:80]}); give another --out, or wait "
            f"for its end"
        ) from error
    except NotImplementedError:
        log.warning("%s: no locks on this file system; start no second training here", folder)
        return
    if file not in _held:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
    _held[file] = lock


def release(folder: Path) -> None:
    """Give a lock up, once for each `hold`; with the last its files are removed."""
    file = folder.resolve() / NAME
    lock = _held.get(file)
    if lock is None:
        return
    if lock.lock_counter == 1:
        file.with_suffix(".owner").unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        del _held[file]
    lock.release()
