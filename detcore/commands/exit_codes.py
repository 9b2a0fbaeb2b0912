"""How a user's mistake ends a command: one sentence and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from detcore.utils.errors import UserError
from detcore.utils.printing import say_error


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
        from detcore.training.train_step import TrainingDiverged

        if not isinstance(error, TrainingDiverged):
            raise
        _fail(str(error), code=1)


def _fail(text: str, code: int = 2) -> NoReturn:
    say_error("[bold red]error:[/]", text)
    raise typer.Exit(code)


class _Notes(logging.Handler):
    """The package's warnings, as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        say_error("note:", record.getMessage())
