"""The first hour of a new user: folders train and test, a run, and the commands after it."""

import json

import pytest

from detcore.checkpoints.checkpoint import read
from detcore.checkpoints.load_model import model_of_run
from detcore.data.splits import hashed_split
from detcore.utils import printing
from tests.commands.test_cli import SMALL, call
from tests.data.test_voc import annotate

TINY = ["--option", "neck_channels=16", "--option", "head_width=16"]
TRAIN, TEST = [f"a{k}" for k in range(20)], [f"t{k}" for k in range(6)]


@pytest.fixture(scope="module", autouse=True)
def wide_console():
    """A narrow console would wrap text after pytest's long paths."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(printing.console, "_width", 400)
        yield


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    root = tmp_path_factory.mktemp("cards")
    for folder, stems in (("train", TRAIN), ("test", TEST)):
        for stem in stems:
            annotate(root, stem, [("ace", (4, 4, 30, 30))], folder=folder, pictures=folder)
    return root


@pytest.fixture(scope="module")
def run(cards, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "cards"
    text = call(
        *("train", "--model", "yolo", "--data", cards, "--steps", 1, "--out", out, *SMALL, *TINY)
    )
    return out, text


@pytest.fixture(scope="module")
def held_out(cards):
    return len(hashed_split(TRAIN, "val", cards))


def test_a_share_of_train_is_held_out_and_said(run, held_out):
    out, text = run
    assert f"{20 - held_out} train, {held_out} val" in text
    assert f"train is {20 - held_out} of 20, by a hash of their names" in text
    assert (out / "best.safetensors").is_file()


def test_eval_measures_what_the_run_was_validated_on(run, held_out):
    assert f"{held_out} images" in call("eval", "--checkpoint", run[0])
    assert "6 images" in call("eval", "--checkpoint", run[0], "--split", "test")


def test_data_that_is_given_for_evaluation_counts_whole(run, cards):
    text = call("eval", "--checkpoint", run[0], "--data", cards / "test")
    assert "6 images" in text and "hash" not in text
    text = call("eval", "--checkpoint", run[0], "--data", cards / "test", "--split", "train")
    assert "of 6, by a hash of their names" in text


def test_a_split_that_is_not_there_ends_with_what_works(run):
    text = call("eval", "--checkpoint", run[0], "--split", "fold7", code=2)
    assert "no split 'fold7' (there are test, train); choose one, such as --split test" in text


def test_a_run_remembers_its_validation_data(cards, tmp_path):
    common = ["--model", "yolo", "--data", cards, "--steps", 1, *SMALL, *TINY]
    text = call("train", "--out", tmp_path / "r", "--val-data", cards / "test", *common)
    assert "20 train, 6 val" in text
    text = call("eval", "--checkpoint", tmp_path / "r", "--json", tmp_path / "m.json")
    assert "6 images" in text
    assert str(cards / "test") in "".join(text.split())
    assert json.loads((tmp_path / "m.json").read_text())["images"] == 6


def test_weights_of_a_run_bring_their_model(run, cards, tmp_path):
    assert model_of_run(str(run[0])) == "yolo"
    assert model_of_run("torchvision") is None
    common = ["--weights", run[0], "--data", cards, "--steps", 1, "--batch-size", 2]
    text = call("train", "--out", tmp_path / "r", *common, "--device", "cpu")
    assert read(tmp_path / "r" / "last.safetensors")[0].model["model"] == "yolo"
    text = call("train", "--out", tmp_path / "s", "--model", "ssd", *common, code=2)
    assert "holds a model yolo, got --model ssd" in text


def test_a_cascade_of_trained_parts(cards, tmp_path):
    classifier = tmp_path / "classifier"
    call(
        *("train", "--model", "classifier", "--data", "digits", "--steps", 1),
        *("--out", classifier, *SMALL),
    )
    detector = tmp_path / "detector"
    call(
        *("train", "--model", "yolo", "--data", cards, "--steps", 1, "--out", detector),
        *SMALL,
        *TINY,
    )
    common = ["--model", "cascade", "--data", cards, "--steps", 1, "--batch-size", 2]
    common += ["--device", "cpu"]
    text = call(
        *("train", "--out", tmp_path / "both", *common),
        *("--detector", detector, "--classifier", classifier),
    )
    assert "yolo, test_resnet, 64" in text
    assert "classifier, test_resnet, 64" in text
    call("eval", "--checkpoint", tmp_path / "both")
    for flags, words in (
        (["--image-size", 64], "a cascade works at each picture's own size"),
        (["--detector", "nowhere"], "--detector must be a run's folder or one of ssd, yolo"),
        (["--detector", classifier], "holds a model classifier, wanted ssd or yolo"),
    ):
        assert words in call("train", "--out", tmp_path / "no", *common, *flags, code=2)


def test_what_cannot_be_written_is_a_sentence(cards, tmp_path):
    (tmp_path / "file").write_text("x")
    common = ["--model", "yolo", "--data", cards, "--steps", 1, *SMALL, *TINY]
    text = call("train", "--out", tmp_path / "file" / "run", *common, code=2)
    assert "file/run" in "".join(text.split()) and "Errno" not in text
