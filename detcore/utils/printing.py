"""Printing what users gave, which is never markup: file names and class names hold brackets."""

from __future__ import annotations

import codecs
import sys

from rich.console import Console

# tables, their titles and progress lines too: a class may be called [red]
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


def say(text: str) -> None:
    """Print text as it is, on one line however long."""
    console.print(text, highlight=False, soft_wrap=True)


def say_error(label: str, text: str, style: str = "") -> None:
    """Print text as it is to standard error, behind a label."""
    errors.print(label, end=" ", style=style)
    errors.print(text, highlight=False, soft_wrap=True)


def as_given(error: UnicodeError) -> tuple[str | bytes, int]:
    """How a character is printed that the terminal has not: a file name's byte as it is, else ?"""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    # Python keeps a byte of a name that is no UTF-8 as one of these characters
    kept = (ord(c) - 0xDC00 if 0xDC80 <= ord(c) <= 0xDCFF else ord("?") for c in text)
    return bytes(kept), error.end


codecs.register_error("detcore.as_given", as_given)


def print_any_name() -> None:
    """Let standard output and error take names of files that are not in their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="detcore.as_given")
