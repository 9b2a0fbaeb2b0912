from pathlib import Path

import pytest

from detcore.training.config import ConfigError, TrainConfig
from detcore.training.config_file import read, write

KINDS = {
    "lr": float,
    "steps": int | None,
    "batch_size": int,
    "data": str,
    "precision": str,
    "augment": bool,
    "out": Path,
    "option": list[str] | None,
    "drop_at": list[float] | None,
}


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "run.yaml"
        file.write_text(text)
        return file

    return write


def test_values_are_read_as_what_they_are_for(written):
    text = """
# a comment
lr: 1e-3        # no number to YAML
batch-size: 8
precision: no   # False to YAML
augment: no
data: 007
steps: null
out: runs/a
option: {neck_channels: 16, anchors: [[1, 2]]}
drop_at: [0.5, 9e-1]
"""
    assert read(written(text), KINDS) == {
        "lr": 1e-3,
        "batch_size": 8,
        "precision": "no",
        "augment": False,
        "data": "007",
        "steps": None,
        "out": "runs/a",
        "option": ["neck_channels=16", "anchors=[[1, 2]]"],
        "drop_at": [0.5, 0.9],
    }
    assert read(written("# nothing\n"), KINDS) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 1\nbatchsize: 3\n", "run.yaml, line 2: unknown setting 'batchsize'; did you mean ba"),
        ("wings: 2\n", "unknown setting 'wings'; there are augment, batch_size, data"),
        ("lr: fast\n", "run.yaml, line 1: lr: must be a number, got 'fast'"),
        ("\n\nsteps: 1.5\n", "run.yaml, line 3: steps: must be a whole number, got '1.5'"),
        ("batch_size: null\n", "batch_size: must be a whole number, got 'null'"),
        ("augment: 1\n", "augment: must be true or false, got '1'"),
        ("data: [a]\n", "data: must be a word, got a sequence"),
        ("option: 3\n", "option: must be a list, got '3'"),
        ("drop_at: {a: 1}\n", "drop_at: must be a list, got a mapping"),
        ("drop_at: [0.5, x]\n", "drop_at: must be a number, got 'x'"),
        ("lr: 1\nlr: 2\n", "line 2: lr is given twice"),
        ("lr: 1\nbatch-size: 2\nbatch_size: 2\n", "line 3: batch_size is given twice"),
        ("- lr\n", "must be lines of NAME: VALUE, got a sequence"),
        ("lr: [1\n", "run.yaml: not readable as YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(written, text, words):
    with pytest.raises(ConfigError) as caught:
        read(written(text), KINDS)
    assert words in str(caught.value)


def test_bounds_are_the_callers(written):
    def check(name, value):
        if name == "lr" and value < 0:
            raise ValueError(f"{value} is below 0")

    with pytest.raises(ConfigError, match=r"run.yaml, line 2: lr: -1.0 is below 0"):
        read(written("steps: 1\nlr: -1\n"), KINDS, check)


def test_nothing_is_constructed_from_tags(written, tmp_path):
    mark = tmp_path / "sprung"
    with pytest.raises(ConfigError, match="option"):
        read(written(f"option: !!python/object/apply:os.mkdir ['{mark}']\n"), {"option": int})
    text = f"option: {{a: !!python/object/apply:os.mkdir ['{mark}']}}\n"
    with pytest.raises(ConfigError, match="line 1: option"):
        read(written(text), KINDS)
    assert not mark.exists()


def test_what_is_written_is_read_again(tmp_path):
    settings = {"lr": 2e-3, "steps": None, "precision": "no", "augment": False, "drop_at": (0.5,)}
    write(tmp_path / "new" / "config.yaml", {**settings, "out": Path("a/b"), "option": ["a=no"]})
    again = read(tmp_path / "new" / "config.yaml", KINDS)
    assert again == {**settings, "drop_at": [0.5], "out": "a/b", "option": ["a=no"]}
    with pytest.raises(ConfigError, match=r"no.yaml: no such configuration"):
        read(tmp_path / "no.yaml", KINDS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give epochs, steps or minutes"),
        ({"steps": 1, "accumulate": 0}, "must be at least 1, got 16 and 0"),
        ({"steps": 1, "drop_at": (0.9, 0.5)}, r"ascending shares .* got \[0.9, 0.5\]"),
        ({"steps": 1, "drop_at": (1.0,)}, r"got \[1.0\]"),
        ({"steps": 1, "ema": 1.0}, r"below 1, got 1\.0"),
        ({"steps": 1, "patience": 2}, "give eval_every too"),
    ],
)
def test_arguments_that_make_no_sense(settings, words):
    with pytest.raises(ConfigError, match=words):
        TrainConfig(**settings).check()


def test_a_steps_images():
    config = TrainConfig(epochs=2, batch_size=4, accumulate=3)
    assert config.images_per_step(2) == 24
    assert [config.total_steps(100, n) for n in (1, 2)] == [17, 9]
