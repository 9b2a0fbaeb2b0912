"""What `--help` shows, of each command."""

import re
import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from detcore import __version__
from detcore.cli import app

ROOT = get_command(app)
COMMANDS = {
    **{name: command for name, command in ROOT.commands.items() if name != "data"},
    "data check": ROOT.commands["data"].commands["check"],
}
PANELS = ("Data", "Model", "Optimization", "Augmentation", "Saving", "Machine")


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "140", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_first_help_has_version_examples_and_every_command() -> None:
    text = shown("--help")
    assert f"detcore {__version__}" in text
    assert "--install-completion" in text
    for name in ROOT.commands:
        assert re.search(rf"^│ {name} +[A-Z]\w+", text, re.MULTILINE), name
    assert text.count("\n detcore ") >= 4


def test_the_version_is_printed() -> None:
    assert shown("--version") == f"detcore {__version__}\n"


def test_options_of_train_are_in_panels_with_defaults_and_choices() -> None:
    text = shown("train", "--help")
    assert [p for p in re.findall(r"╭─ (\w+) ", text) if p != "Options"] == list(PANELS)
    for choices in ("[adamw|sgd]", "[no|bf16|fp16|auto]", "[auto|cpu|cuda]"):
        assert choices in text
    assert "[default: 0.002]" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    assert not [p.name for p in COMMANDS[name].params if not p.help]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_name_options_that_there_are(name: str) -> None:
    known = {flag for p in COMMANDS[name].params for flag in (*p.opts, *p.secondary_opts)}
    lines = [line.strip() for line in (COMMANDS[name].epilog or "").split("\n\n")]
    examples = [line for line in lines if line.startswith("detcore ")]
    assert examples
    for example in examples:
        assert example.startswith(f"detcore {name}")
        given = {word for word in shlex.split(example) if word.startswith("--")}
        assert given <= known, example
