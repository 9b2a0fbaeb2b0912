import json
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from detcore.cli import app

SMALL = ["--backbone", "test_resnet", "--image-size", "64", "--batch-size", "2", "--device", "cpu"]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a command must never show a traceback
    assert result.exit_code == code, text
    return text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A detector trained for two steps: its detections are noise, but its files are valid."""
    out = tmp_path_factory.mktemp("run")
    text = call(
        "train",
        "--model",
        "yolo",
        "--steps",
        2,
        "--out",
        out,
        "--option",
        "neck_channels=16",
        "--option",
        "head_width=16",
        *SMALL,
    )
    return out, text


def test_train_says_what_it_does_and_writes_its_files(run):
    out, text = run
    for words in ("yolo", "test_resnet", "digits: 10000 train, 500 val", "done: 2 steps", "AP50"):
        assert words in text
    names = {"last", "best"}
    wanted = {f"{n}.{s}" for n in names for s in ("json", "safetensors")}
    wanted |= {"log.csv", "val.csv", "loss.png", "metrics.json", "config.yaml"}
    wanted |= {"last.state.safetensors"}
    assert {p.name for p in out.iterdir()} == wanted
    saved = json.loads((out / "last.json").read_text())
    assert saved["model"]["neck_channels"] == 16
    assert saved["data"] == {"spec": "digits", "seed": 0, "task": "detection", "size": 64}
    assert saved["training"]["steps"] == 2


def test_eval_prints_a_table_and_writes_json(run, tmp_path):
    text = call("eval", "--checkpoint", run[0], "--limit", 5, "--json", tmp_path / "m.json")
    assert "AP50" in text
    assert "5 images" in text
    figures = json.loads((tmp_path / "m.json").read_text())
    assert figures["images"] == 5
    assert 0 <= figures["AP50"] <= 1
    assert [r["name"] for r in figures["per_class"]] == [str(d) for d in range(10)]


def test_predict_from_a_data_set(run, tmp_path):
    call(
        "predict",
        "--checkpoint",
        run[0],
        "--data",
        "digits",
        "--count",
        3,
        "--score",
        0,
        "--out",
        tmp_path / "p",
        "--json",
        tmp_path / "p.json",
    )
    names = {f"digits-val-0-00000{k}.png" for k in range(3)} | {"overview.png"}
    assert {p.name for p in (tmp_path / "p").iterdir()} == names
    with Image.open(tmp_path / "p" / "digits-val-0-000000.png") as picture:
        assert min(picture.size) >= 480
    answers = json.loads((tmp_path / "p.json").read_text())
    assert [a["file"] for a in answers] == sorted(names - {"overview.png"})
    for found in answers[0]["detections"]:
        assert set(found) == {"class", "score", "box"}
        assert len(found["box"]) == 4


def test_predict_photos(run, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.effect_noise((80, 60), 90).save(tmp_path / folder / "x.jpg")
    photo = tmp_path / "a" / "x.jpg"
    text = call("predict", photo, "--checkpoint", run[0], "--out", tmp_path / "one.png")
    assert str(photo) in text
    assert Image.open(tmp_path / "one.png").size == (640, 480)
    call("predict", photo, tmp_path / "b", "--checkpoint", run[0], "--out", tmp_path / "out")
    names = {"x.png", "x-2.png", "overview.png"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    text = call(
        "predict",
        photo,
        tmp_path / "b",
        "--checkpoint",
        run[0],
        "--out",
        tmp_path / "two.png",
        code=2,
    )
    assert "--out must be a folder for 2 pictures" in text


def test_predict_in_tiles(tmp_path):
    from detcore.checkpoints import checkpoint
    from detcore.data import read_image
    from detcore.inference.predictor import to_json
    from detcore.inference.tiles import predict_tiled
    from detcore.models import create

    # without a threshold, noise has many objects
    net = create("yolo", 3, backbone="test_resnet", image_size=64, score_threshold=0.0).eval()
    run = tmp_path / "run.safetensors"
    checkpoint.save(run, net, checkpoint.CheckpointInfo(net.config, ["a", "b"]))
    photo, out = tmp_path / "x.png", tmp_path / "out.png"
    Image.effect_noise((150, 60), 90).save(photo)
    tiles = ["--tiles", "--tile-size", 50, "--tile-overlap", 0.3]
    files = ["--out", out, "--json", tmp_path / "p.json"]
    arguments = ["predict", photo, "--checkpoint", run, "--score", 0, "--device", "cpu"]
    assert f"{photo}: " in call(*arguments, *tiles, *files)
    assert Image.open(out).size == (1200, 480)
    image = read_image(photo)
    found = predict_tiled(net, image, tile=50, overlap=0.3)
    assert len(found["boxes"]) > 100  # more than from one picture
    answer = {"file": str(photo), **to_json(found, ["a", "b"], image)}
    assert json.loads((tmp_path / "p.json").read_text()) == [answer]


def test_the_classifier_goes_the_same_way(tmp_path):
    text = call("train", "--model", "classifier", "--steps", 2, "--out", tmp_path, *SMALL)
    assert "accuracy" in text
    text = call("eval", "--checkpoint", tmp_path, "--limit", 8)
    assert "accuracy" in text
    text = call(
        "predict",
        "--checkpoint",
        tmp_path,
        "--data",
        "digits",
        "--count",
        1,
        "--json",
        tmp_path / "p.json",
    )
    (named,) = json.loads((tmp_path / "p.json").read_text())[0]["classes"]
    assert named["class"] in [str(d) for d in range(10)]
    assert f"{named['class']} ({named['score']:.2f})" in text
    text = call("predict", "x.jpg", "--checkpoint", tmp_path, "--tiles", code=2)
    assert "--tiles is for detectors, the checkpoint is for classification" in text
    text = call("predict", "x.jpg", "--checkpoint", tmp_path, "--tta", code=2)
    assert "--tta is for detectors, the checkpoint is for classification" in text


def test_what_a_classifier_names(run, tmp_path):
    from detcore.checkpoints import checkpoint
    from detcore.models import create

    def saved(**options):
        net = create("classifier", 3, backbone="test_resnet", image_size=32, **options)
        name = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        checkpoint.save(
            name, net, checkpoint.CheckpointInfo(net.config, list("abc"), "classification")
        )
        return name

    def named(run, *arguments, code=0):
        files = ["--json", tmp_path / "p.json", "--out", tmp_path / "out.png"]
        text = call("predict", photo, "--checkpoint", run, *files, *arguments, code=code)
        if code:
            return text
        rows = json.loads((tmp_path / "p.json").read_text())[0]["classes"]
        shown = ", ".join(f"{r['class']} ({r['score']:.2f})" for r in rows)
        assert f"{photo}: {shown or 'no class above its threshold'}\n" in text
        assert [r["score"] for r in rows] == sorted((r["score"] for r in rows), reverse=True)
        return len(rows)

    photo = tmp_path / "x.png"
    Image.effect_noise((80, 60), 90).save(photo)
    one, many = saved(), saved(multilabel=True, score_threshold=[0.0, 1.0, 0.0])
    assert [named(one), named(one, "--top-k", 2), named(saved(top_k=3))] == [1, 2, 3]
    assert [named(many), named(saved(multilabel=True, score_threshold=1.0))] == [2, 0]
    # with several labels, --score replaces the model's own thresholds
    assert [named(many, "--score", 0), named(many, "--score", 1)] == [3, 0]
    assert "--score is for detectors and classifiers of" in named(one, "--score", 0.9, code=2)
    assert "top_k must be in 1..3, got 4" in named(one, "--top-k", 4, code=2)
    assert "top_k must be 1, got 2" in named(many, "--top-k", 2, code=2)
    assert "--top-k is for classifiers" in named(run[0], "--top-k", 2, code=2)


def test_own_pictures_in_folders(tmp_path):
    for k, name in enumerate(("dark", "light")):
        for i in range(6):
            path = tmp_path / "data" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (k * 200,) * 3).save(path)
    text = call(
        "train",
        "--model",
        "classifier",
        "--data",
        tmp_path / "data",
        "--steps",
        2,
        "--out",
        tmp_path / "run",
        *SMALL,
    )
    assert "2: dark, light" in text
    text = call("train", "--data", tmp_path / "data", "--out", tmp_path / "ssd", code=2)
    assert "data is for classification, which --model ssd doesn't do" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--model", "resnet"], "model must be one of"),
        (["train", "--data", "/no/such/folder"], "no such data"),
        (
            ["train", "--precision", "fp8"],
            "--precision must be one of no, bf16, fp16, auto, got 'fp8'",
        ),
        (["train", "--optimizer", "adam"], "--optimizer must be one of"),
        (["train", "--device", "tpu"], "--device must be one of"),
        (["train", "--option", "depth"], "--option must be NAME=JSON, got 'depth'"),
        (["train", "--option", "depth=3"], "depth"),
        (["train", "--backbone", "resnet_of_doom"], "resnet_of_doom"),
        (["train", "--image-size", "7"], "--image-size"),
        (["train", "--minutes", "soon"], "--minutes"),
        (["eval", "--checkpoint", "/no/such/run"], "/no/such/run: no such checkpoint"),
        (["eval"], "--checkpoint"),
        (["predict", "x.jpg", "--checkpoint", "/no/such/run"], "no such checkpoint"),
        (["predict", "--checkpoint", "/no/such/run"], "give photos, or --data"),
        (["predict", "x.jpg", "--checkpoint", "x", "--tile-size", "9"], "--tile-size"),
        (["predict", "x.jpg", "--checkpoint", "x", "--tile-overlap", "1"], "--tile-overlap"),
        (["fly"], "fly"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence_and_code_2(arguments, words):
    text = call(*arguments, code=2)
    assert words in text
    assert "Traceback" not in text


def test_wrong_pictures_and_data_are_named(run, tmp_path):
    text = call("predict", tmp_path / "x.jpg", "--checkpoint", run[0], code=2)
    assert "x.jpg: no such picture" in text
    (tmp_path / "empty").mkdir()
    assert "no pictures in" in call("predict", tmp_path / "empty", "--checkpoint", run[0], code=2)
    assert "split must be train or val, got 'test'" in call(
        "eval", "--checkpoint", run[0], "--split", "test", code=2
    )


def test_a_checkpoint_cut_short_is_named(run, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes((run[0] / "last.safetensors").read_bytes()[:5000])
    text = call("eval", "--checkpoint", tmp_path / "cut.safetensors", code=2)
    assert "cut.safetensors: truncated" in text


def test_divergence_is_a_sentence(tmp_path):
    text = call(
        "train",
        "--model",
        "yolo",
        "--steps",
        60,
        "--lr",
        "1e18",
        "--clip",
        0,
        "--warmup",
        0,
        "--optimizer",
        "sgd",
        "--out",
        tmp_path,
        *SMALL,
        code=1,
    )
    assert re.search(r"the loss became (nan|inf) at step \d+ .* image ids \[", text)


def test_help_names_the_commands_without_heavy_imports():
    import subprocess
    import sys

    code = (
        "import sys; from detcore.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'timm', 'matplotlib', 'sklearn', 'pycocotools'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("train", "eval", "predict", "bench", "info"):
        assert command in done.stdout


def test_without_typer_one_sentence_says_what_to_install():
    import subprocess
    import sys

    code = "import sys; sys.modules['typer'] = None; import detcore.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.strip() == (
        "detcore's command line needs typer: pip install 'detcore[models]'"
    )


def test_a_run_is_not_overwritten_by_accident(tmp_path):
    (tmp_path / "best.safetensors").write_bytes(b"an earlier run's")
    arguments = ["train", "--model", "classifier", "--steps", 1, "--out", tmp_path, *SMALL]
    assert "holds a run already" in call(*arguments, code=2)
    assert (tmp_path / "best.safetensors").read_bytes() == b"an earlier run's"
    call(*arguments, "--overwrite")
    call("eval", "--checkpoint", tmp_path, "--limit", 2)


def test_data_that_is_another_is_refused(run, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a.jpg")
    box = "".join(
        f"<{k}>{v}</{k}>" for k, v in (("xmin", 1), ("ymin", 2), ("xmax", 20), ("ymax", 20))
    )
    (folder / "a.xml").write_text(
        f"<annotation><object><name>cell</name><bndbox>{box}</bndbox></object></annotation>"
    )
    text = call("eval", "--checkpoint", run[0], "--data", folder, "--split", "all", code=2)
    assert "has the classes cell, the model 0, 1, 2" in text
    text = call("eval", "--checkpoint", run[0], "--data", folder, "--limit", 2, code=2)
    assert "--limit is for digits" in text


def test_info_prints_the_build():
    import detcore

    text = call("info")
    assert detcore.__version__ in text
    assert "instruction_sets" in text


def test_bench_is_handed_on(monkeypatch, tmp_path):
    import sys
    from types import ModuleType

    import detcore

    asked, fake = [], ModuleType("detcore.bench")
    fake.main = lambda full, op, json: asked.append((full, op, json))
    monkeypatch.setitem(sys.modules, "detcore.bench", fake)
    monkeypatch.setattr(detcore, "bench", fake, raising=False)
    call("bench", "--full", "--op", "nms", "--json", tmp_path / "b.json")
    call("bench")
    assert asked == [(True, "nms", tmp_path / "b.json"), (False, None, None)]
