"""Printing what users gave, which is never markup: file names and class names hold brackets."""

from __future__ import annotations

from rich.console import Console

console = Console()
errors = Console(stderr=True)


def say(text: str) -> None:
    """Print text as it is, on one line however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def say_error(label: str, text: str) -> None:
    """Print text as it is to standard error, behind a label that may be markup."""
    errors.print(label, end=" ")
    errors.print(text, markup=False, highlight=False, soft_wrap=True)
