import json

import pytest

from detcore.checkpoints import checkpoint
from detcore.models import create
from tests.commands.test_cli import SMALL, call
from tests.commands.test_cli_data import TINY, coco


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained detector that finds many objects."""
    net = create("yolo", 11, backbone="test_resnet", image_size=64, score_threshold=0.0).eval()
    path = tmp_path_factory.mktemp("run") / "run.safetensors"
    info = checkpoint.CheckpointInfo(
        net.config, [str(d) for d in range(10)], data={"spec": "digits", "seed": 0, "size": 64}
    )
    checkpoint.save(path, net, info)
    return path


def test_saved_results_score_as_the_model_did(run, tmp_path):
    files = ["--json", tmp_path / "a.json", "--save-results", tmp_path / "dets.json"]
    where = ["--limit", 4, "--report", tmp_path / "report.html", "--plots", tmp_path]
    text = call("eval", "--checkpoint", run, "--score", 0.01, *where, *files)
    for words in ("AP small, medium, large", "VOC AP50", "errors", "million parameters", "report"):
        assert words in text
    assert (tmp_path / "confusion.png").is_file()
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    from detcore.data import load

    # the same four pictures as a COCO file, without the pictures
    (tmp_path / "truth.json").write_text(
        json.dumps(load("digits", "val", task="detection", seed=0, size=64, length=4).to_coco())
    )
    again = ["--data", tmp_path / "truth.json", "--score", 0.01, "--json", tmp_path / "b.json"]
    call("eval", "--results", tmp_path / "dets.json", *again, "--report", tmp_path / "b.html")
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "ab")
    assert first["images"] == second["images"] == 4
    assert first["parameters"] > 0 and "parameters" not in second
    of_the_model = {"checkpoint", "parameters", "seconds", "images_per_second", "thresholds"}
    assert set(first) - set(second) == of_the_model
    rest = set(second) - {"results"}
    assert {k: first[k] for k in rest} == {k: second[k] for k in rest}
    assert {"voc", "confusion", "errors", "curves", "best_confidence"} < rest


def test_pictures_that_were_trained_on_are_said_to_be_these(tmp_path):
    coco(tmp_path, "train", 2)
    coco(tmp_path, "val", 2)
    data = ["--data", tmp_path / "train.json"]
    call("train", "--model", "yolo", *data, "--steps", 1, "--out", tmp_path / "r", *SMALL, *TINY)
    words = "train.json has no splits: the model was trained on these pictures"
    assert words in call("eval", "--checkpoint", tmp_path / "r")
    other = ["--data", tmp_path / "val.json"]
    assert "one split" not in call("eval", "--checkpoint", tmp_path / "r", *other)


def test_the_truth_is_not_overwritten_however_it_is_named(run, tmp_path):
    coco(tmp_path, "val", 2)
    truth = tmp_path / "val.json"
    before = truth.read_bytes()
    for spec in (truth, f"coco:{truth}"):
        said = call("eval", "--checkpoint", run, "--data", spec, "--json", truth, code=2)
        assert f"--json would overwrite the input {truth}" in said
    assert truth.read_bytes() == before


def test_a_classifier_is_reported_too(tmp_path):
    net = create("classifier", 10, backbone="test_resnet", image_size=32)
    run = tmp_path / "run.safetensors"
    info = checkpoint.CheckpointInfo(
        net.config,
        [str(d) for d in range(10)],
        "classification",
        data={"spec": "digits", "seed": 0, "size": 32},
    )
    checkpoint.save(run, net, info)
    out = ["--report", tmp_path / "r.html", "--plots", tmp_path / "plots"]
    text = call("eval", "--checkpoint", run, "--limit", 6, *out)
    assert f"confusion.png is in {tmp_path / 'plots'}" in text
    assert "top-5 accuracy" in text and "accuracy" in text
    assert "Confusion" in (tmp_path / "r.html").read_text()
    out = ["--save-results", tmp_path / "d.json"]
    text = call("eval", "--checkpoint", run, "--limit", 2, *out, code=2)
    assert "--save-results is for detectors, this is classification" in text
    options = ("--score-threshold", "--nms-threshold", "--max-detections", "--voc-iou")
    for option in options:
        text = call("eval", "--checkpoint", run, "--limit", 2, option, 1, code=2)
        assert f"{option} is for detectors, this is classification" in text


def test_thresholds_are_asked_for_and_told(run, tmp_path):
    def figures(*options):
        text = call(
            "eval", "--checkpoint", run, "--limit", 3, "--json", tmp_path / "a.json",
            "--save-results", tmp_path / "dets.json", "--report", tmp_path / "a.html", *options,
        )  # fmt: skip
        found = json.loads((tmp_path / "dets.json").read_text())
        page = (tmp_path / "a.html").read_text()
        return json.loads((tmp_path / "a.json").read_text()), found, text, page

    plain, found, text, page = figures()
    words = "scores above 0.001, NMS at IoU 0.6, at most 100 detections per picture"
    assert f"thresholds: {words}; precision, recall and errors at confidence 0.5" in text
    assert f"thresholds: {words}<" in page
    assert plain["thresholds"] == {"score": 0.001, "nms": 0.6, "max_detections": 100}
    assert min(r["score"] for r in found) > 0.001
    middle = sorted(r["score"] for r in found)[len(found) // 2]

    told, fewer, text, _ = figures("--score-threshold", middle)
    assert told["thresholds"] == {**plain["thresholds"], "score": middle}
    assert f"scores above {middle:g}, " in text
    assert [r for r in found if r["score"] > middle] == fewer
    told, fewer, text, _ = figures("--max-detections", 1)
    assert told["thresholds"] == {**plain["thresholds"], "max_detections": 1}
    assert "at most 1 detection per picture" in text and len(fewer) == 3
    told, fewer, text, _ = figures("--nms-threshold", 0)
    assert told["thresholds"] == {**plain["thresholds"], "nms": 0}
    assert "NMS at IoU 0, " in text and 0 < len(fewer) < len(found)

    told, same, text, page = figures("--voc-iou", 0.75, "--voc-iou", 0.5, "--voc-iou", 0.75)
    assert [voc["iou"] for voc in told["voc"]] == [0.75, 0.5]
    assert told["voc"][1] == plain["voc"][0] and same == found
    for words in ("VOC AP75, 11 and all points", "VOC AP50, 11 and all points"):
        assert words in text
    assert "VOC, IoU 0.75" in page and "VOC, IoU 0.5<" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--results", "d.json"], "--results needs --data"),
        (["--results", "d.json", "--data", "x.json", "--limit", 3], "without --limit"),
        (["--results", "d.json", "--score-threshold", 0.1], "without --score-threshold"),
        (["--results", "d.json", "--nms-threshold", 0.0], "without --nms-threshold"),
        (["--results", "d.json", "--max-detections", 9], "without --max-detections"),
        (["--results", "d.json", "--data", "x.json", "--checkpoint", "r"], "without a model"),
        (["--results", "d.json", "--data", "/no/such"], "d.json: no such file"),
        (["--results", "/no/dets.json", "--data", "digits"], "/no/dets.json: no such file"),
    ],
)
def test_results_and_models_do_not_mix(arguments, words):
    assert words in call("eval", *arguments, code=2)


def test_places_that_cannot_be_written_are_said_before_the_work(tmp_path):
    there = tmp_path / "file.json"
    there.write_text("[]")
    for option, place, words in (
        ("--plots", there, "file.json is a file, wanted a folder"),
        ("--report", tmp_path, "is a folder, wanted a file"),
        ("--save-results", "/proc/x.json", "nothing can be written in /proc"),
        ("--json", there, "--json would overwrite the input"),
    ):
        text = call("eval", "--results", there, "--data", "/no/such", option, place, code=2)
        assert words in text


def test_a_wrong_entry_is_one_sentence(tmp_path):
    (tmp_path / "d.json").write_text('[{"image_id": -3, "category_id": 1, "bbox": [], "score": 0}]')
    text = call("eval", "--results", tmp_path / "d.json", "--data", "digits", code=2)
    assert "d.json: entry 0 is of image -3, which the data doesn't have" in text
