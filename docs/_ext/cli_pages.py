"""The command line's pages, from the commands themselves."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from detcore.cli import app


def pages() -> dict[str, str]:
    """A Markdown text per command, by file name."""
    return {f"{name.replace(' ', '_')}.md": _page(name, command) for name, command in _commands()}


def _commands() -> Iterator[tuple[str, Any]]:
    for name, command in get_command(app).commands.items():
        inside = getattr(command, "commands", None)
        if inside is None:
            yield name, command
        else:
            for below, one in inside.items():
                yield f"{name} {below}", one


def _page(name: str, command: Any) -> str:
    lines = [_plain(command.help), "", "```console", *_examples(command), "```", ""]
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        panel = getattr(parameter, "rich_help_panel", None)
        usual = "Options" if parameter.opts[0].startswith("-") else "Arguments"
        panels.setdefault(panel or usual, []).append(parameter)
    for panel, parameters in panels.items():
        lines += [f"**{panel}**", ""]
        for parameter in parameters:
            lines += [_name(parameter), f":   {_plain(parameter.help)}{_default(parameter)}", ""]
    return "\n".join(lines)


def _examples(command: Any) -> list[str]:
    words = (command.epilog or "").replace("\\[", "[").split("\n\n")
    return [f"$ {line.strip()}" for line in words if line.strip().startswith("detcore")]


def _name(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return f"`{parameter.name.upper()}`"
    flags = " / ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
    return flags + (f" {_escaped(_kind(parameter))}" if not parameter.is_flag else "")


def _kind(parameter: Any) -> str:
    """The choices, or what may be given: `integer, 1 to 16`."""
    if parameter.metavar:
        return parameter.metavar
    kind = parameter.type_descriptor.annotation
    word = {str: "TEXT", float: "NUMBER", int: "INTEGER", Path: "PATH", list[str]: "TEXT"}
    name = word.get(kind, "NUMBER")
    if parameter.min is None:
        return name
    low = f"at least {parameter.min:g}"
    return f"{name}, {low if parameter.max is None else f'{parameter.min:g} to {parameter.max:g}'}"


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or value == () or parameter.required or callable(value):
        return ""
    if value is True:
        return f" Default: `{parameter.opts[0]}`."
    return f" Default: `{value}`."


def _plain(text: str | None) -> str:
    lines = (text or "").strip().split("\n")
    return _escaped("\n".join(line.strip() for line in lines))


def _escaped(text: str) -> str:
    text = re.sub(r"(?<![\w`-])(--[a-z][a-z-]+)", r"`\1`", text)
    return text.replace("*", "\\*").replace("<", "&lt;").replace("[", "\\[")
