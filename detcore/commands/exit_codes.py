"""How a user's mistake ends a command: one sentence and an exit code."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from detcore.utils.errors import UsageError, UserError
from detcore.utils.printing import print_any_name, say_error

_LARGEST = 2**31 - 1  # whole number that an option takes
_LARGEST_REAL = 1e19  # the same of other numbers: learning rates to see a run diverge, say
INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a user can put right into one sentence and exit code 2; bugs keep their trace."""
    print_any_name()
    logger = logging.getLogger("detcore")
    if not any(isinstance(h, _Notes) for h in logger.handlers):
        logger.addHandler(_Notes())
    try:
        yield
    except UserError as error:
        _fail(str(error))
    except ImportError as error:
        _fail(str(error))
    except OSError as error:
        _fail(_sentence(error))
    except RecursionError:
        _fail("what was given is nested too deeply")
    except KeyboardInterrupt:
        _fail("interrupted", code=INTERRUPTED)
    except RuntimeError as error:
        from detcore.training.train_step import TrainingDiverged

        if not isinstance(error, TrainingDiverged):
            raise
        _fail(str(error), code=1)


def refusing_nonsense(command: Callable[..., None]) -> Callable[..., None]:
    """A command that first refuses what no option means: NaN, infinity, huge numbers, nothing."""

    @functools.wraps(command)
    def checked(*args: Any, **given: Any) -> None:
        with plain_errors():
            for name, value in given.items():
                for one in value if isinstance(value, list | tuple) else (value,):
                    _check_value(name, one)
            command(*args, **given)

    return checked


def _check_value(name: str, value: Any) -> None:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, str) and not value.strip():
        raise UsageError(f"{option} must not be empty")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{option} must be a finite number, got {value}")
    most = _LARGEST if isinstance(value, int) else _LARGEST_REAL
    if isinstance(value, int | float) and abs(value) > most:
        raise UsageError(f"{option} must be at most {most}, got {value}")


def _fail(text: str, code: int = 2) -> NoReturn:
    say_error("error:", text, "bold red")
    raise typer.Exit(code)


def _sentence(error: OSError) -> str:
    """What the system says, behind the file's name instead of a number."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename is not None else reason


class _Notes(logging.Handler):
    """The package's warnings, as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        say_error("note:", record.getMessage())
