"""Random options of every command, with missing data: a message, never a traceback."""

import contextlib
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import click
import typer
from typer.testing import CliRunner

from detcore.cli import app

# Arguments with which each command ends before any work, because the files don't exist.
BASE = {
    "train": ["--data", "/no/such/data", "--out", "/no/such/out"],
    "eval": ["--checkpoint", "/no/such/run"],
    "predict": ["/no/such.jpg", "--checkpoint", "/no/such/run"],
    "data check": ["/no/such/data"],
    "bench": ["--op", "no_such_op"],
}
NUMBERS = (
    *("x", "nan", "inf", "-inf", "99999999999999999999", "-99999999999999999999"),
    *("0", "-1", "1", "2", "0.5", "1e-300", "1e300", "1,5", "0x10", "\u0661"),
)
WORDS = (
    *("", " ", "x" * 5000, "é\n", "[/x]", "[red]", "%s", "{0}", "--", "-", "..", "a=b", "a={"),
    *("null", "/dev/null", "nonsense", "file", "folder", "missing/file", "yolo", "ssd"),
)


def command_of(name: str) -> click.Command:
    """A command of the program by name, such as ``data check``."""
    command = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]  # type: ignore[attr-defined]
    return command


def refused(name: str, arguments: list[str]) -> str:
    """The message of a command for arguments that it must refuse, without colours.

    Raises:
        AssertionError: it accepted them, printed nothing, or raised an exception.
    """
    result = CliRunner().invoke(app, [*name.split(), *arguments])
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code != 0, text
    assert text.strip() and "Traceback" not in text, text
    return text


class CommandLineFuzz:
    """One to five options of a command, each with a value that may be valid or not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "folder").mkdir()
        (root / "file").write_bytes(b"\xff\x00")
        self.options = {
            name: [p for p in command_of(name).params if p.opts[0].startswith("--")]
            for name in BASE
        }

    def case(self, rng: random.Random) -> None:
        name = rng.choice(list(BASE))
        arguments = list(BASE[name])
        for _ in range(rng.randint(1, 5)):
            option = rng.choice(self.options[name])
            if option.name == "help":
                continue
            arguments.append(rng.choice(option.opts + option.secondary_opts))
            if not getattr(option, "is_flag", False):
                arguments.append(rng.choice(rng.choice((NUMBERS, WORDS))))
        with _inside(self.root):
            try:
                refused(name, arguments)
            except AssertionError as error:
                raise AssertionError(f"{name} {arguments}: {error}") from error
        assert sorted(os.listdir(self.root)) == ["file", "folder"], f"{name} {arguments}"


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
