"""What the command line says, and how a user's mistake ends it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console

from detcore.errors import UserError

console = Console()
errors = Console(stderr=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a user can put right into one sentence and exit code 2; bugs keep their trace."""
    logger = logging.getLogger("detcore")
    if not any(isinstance(h, _Notes) for h in logger.handlers):
        logger.addHandler(_Notes())
    try:
        yield
    except (ImportError, OSError) as error:
        _fail(str(error))
    except UserError as error:
        _fail(str(error))
    except RuntimeError as error:
        from detcore.engine.learner import TrainingDiverged

        if not isinstance(error, TrainingDiverged):
            raise
        _fail(str(error), code=1)


def _fail(text: str, code: int = 2) -> NoReturn:
    errors.print("[bold red]error:[/] ", end="")
    errors.print(text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


class _Notes(logging.Handler):
    """The package's warnings, as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        errors.print(f"note: {record.getMessage()}", markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print text as it is: file names with brackets are no markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
