"""Runs a command with a time limit, and ends its whole process group."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GRACE = 2.0  # seconds between SIGTERM and SIGKILL


@dataclass
class Ended:
    """How a command ended. code: its exit code, or None if it was killed."""

    code: int | None
    seconds: float
    reason: str = ""


def run(
    command: list[str],
    log: Path,
    limit: float,
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    silent_for: Callable[[], float] | None = None,
    silence: float = float("inf"),
    watch: Callable[[float], None] | None = None,
) -> Ended:
    """Runs a command to its end, or to `limit` seconds, or until it is silent for too long.

    log: file to which its output is appended. silent_for: returns the seconds since its last
    output. watch: called twice a second with the seconds so far. Other processes in the command's
    process group are killed too, even if this function raises an exception.
    """
    begin = time.monotonic()
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            return Ended(127, 0.0, f"{command[0]} could not be started: {error.strerror}")
    try:
        while True:
            seconds = time.monotonic() - begin
            try:
                code = process.wait(timeout=min(0.5, max(limit - seconds, 0.01)))
                return Ended(code, time.monotonic() - begin, _said_of(code))
            except subprocess.TimeoutExpired:
                pass
            seconds = time.monotonic() - begin
            if seconds >= limit:
                return Ended(None, seconds, f"stopped at its limit of {limit:.0f} s")
            if silent_for and (quiet := min(silent_for(), seconds)) >= silence:
                return Ended(None, seconds, f"stopped: nothing new for {quiet:.0f} s")
            if watch:
                watch(seconds)
    finally:
        _end_group(process)


def _said_of(code: int) -> str:
    if code >= 0:
        return "" if code == 0 else f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM, wait, send SIGKILL; a process that hangs in the driver may survive."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE)
    _signal(process, signal.SIGKILL)  # also the children of a leader that has ended
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # the group has the id of its leader
