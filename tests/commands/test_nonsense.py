"""Nonsense for every option of every command gives a message and a status, never a traceback."""

import re
from typing import get_args, get_type_hints

import pytest
from typer.testing import CliRunner

from detcore.cli import app
from detcore.commands import bench, data_check, evaluate, predict, train
from tests.fuzz.command_line import BASE, command_of, refused

WORDS = ("", "x" * 5000, "é\n")
NUMBERS = ("x", "nan", "inf", "99999999999999999999", "-99999999999999999999")


CALLBACKS = {
    "train": train.train_command,
    "eval": evaluate.evaluate_command,
    "predict": predict.predict_command,
    "data check": data_check.data_check_command,
    "bench": bench.bench_command,
}


def options():
    """Each option with a value, of every command: command, option, whether it is a number."""
    for name, callback in CALLBACKS.items():
        hints = get_type_hints(callback)
        for option in command_of(name).params:
            if option.opts[0].startswith("--") and option.name in hints and not option.is_flag:
                kinds = {hints[option.name], *get_args(hints[option.name])}
                yield name, option.opts[0], bool({int, float, list[float]} & kinds)


OPTIONS = list(options())


def answer(name, *arguments):
    return re.sub(r"[│\s]+", "", refused(name, [*BASE[name], *arguments]))


def test_there_are_options_of_each_kind():
    assert len(OPTIONS) > 70
    assert {of_numbers for _, _, of_numbers in OPTIONS} == {True, False}


@pytest.mark.parametrize(("name", "option"), [o[:2] for o in OPTIONS if o[2]])
def test_numbers(name, option):
    for value in NUMBERS:
        assert option in answer(name, option, value), value


@pytest.mark.parametrize(("name", "option"), [o[:2] for o in OPTIONS if not o[2]])
def test_words_and_paths(name, option, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"\xff\x00")
    for value in (*WORDS, str(tmp_path / "folder"), str(tmp_path / "file"), "/dev/null"):
        answer(name, option, value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "a.jpg", "--checkpoint", "r", "--split", "test"], "--split needs --data"),
        (["predict", "a.jpg", "--checkpoint", "r", "--count", "3"], "--count needs --data"),
        (["predict", "a.jpg", "--checkpoint", "r", "--names", "n"], "--names is for --model"),
        (["eval", "--checkpoint", "r", "--names", "n"], "--names is for --model"),
        (["train", "--detector", "ssd", "--steps", "1"], "--detector is for --model cascade"),
        (["train", "--lr", "inf"], "--lr must be a finite number, got inf"),
    ],
)
def test_what_belongs_to_nothing_is_refused(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert words in re.sub(r"\s+", " ", result.output)
