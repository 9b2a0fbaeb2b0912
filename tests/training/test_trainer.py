import csv
import time

import pytest
import torch

from detcore.checkpoints.checkpoint import load, read
from detcore.data import DigitPatches
from detcore.evaluation.evaluator import Measured, evaluate
from detcore.models import create
from detcore.training import trainer as module
from detcore.training.config import ConfigError, TrainConfig
from detcore.training.train_step import TrainingDiverged
from detcore.training.trainer import train


def rows(path):
    with path.open() as stream:
        return [{k: float(v) for k, v in r.items()} for r in csv.DictReader(stream)]


def test_it_learns_and_writes_its_log(tmp_path, fresh, scenes):
    config = TrainConfig(steps=60, batch_size=8, lr=0.02, log_every=5)
    result = train(fresh(), scenes(length=8), config, out=tmp_path)
    log = rows(tmp_path / "log.csv")
    assert result.steps == 60
    assert [int(r["step"]) for r in log] == list(range(5, 61, 5))
    assert log[-1]["epoch"] == 60
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert log[0]["loss"] == pytest.approx(log[0]["loss_box"] + log[0]["loss_class"], rel=1e-4)
    assert max(r["lr"] for r in log) <= 0.02
    assert log[-1]["lr"] < 0.001


def test_a_run_repeats_to_the_bit(tiny_class, scenes):
    class Noisy(tiny_class):  # like a detector that samples proposals
        def forward(self, images, targets=None):
            losses = super().forward(images, targets)
            return {k: v * (0.5 + torch.rand(())) for k, v in losses.items()}

    config, data, weights = TrainConfig(steps=6, batch_size=4, ema=0.9), scenes(), []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = Noisy()
        torch.rand(1 + len(weights))  # random numbers before the run don't matter
        train(model, data, TrainConfig(**{**vars(config), "seed": seed}))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_epochs_and_steps_make_the_length(fresh):
    assert TrainConfig(epochs=2, batch_size=8).total_steps(20) == 5
    assert TrainConfig(epochs=2, steps=3, batch_size=8).total_steps(20) == 3
    assert TrainConfig(minutes=1).total_steps(20) is None
    with pytest.raises(ValueError, match="give epochs, steps or minutes"):
        train(fresh(), [], TrainConfig())


def test_minutes_end_the_run_with_the_cosine(tmp_path, fresh, scenes):
    started = time.perf_counter()
    config = TrainConfig(minutes=0.03, batch_size=4, log_every=1)
    result = train(fresh(), scenes(), config, out=tmp_path)
    assert 1.7 < result.seconds < 4
    assert time.perf_counter() - started < 8
    log = rows(tmp_path / "log.csv")
    assert len(log) == result.steps > 10
    assert log[-1]["lr"] < 0.05 * 1e-3  # for any number of steps
    assert max(r["lr"] for r in log) > 0.9 * 1e-3


def test_nan_stops_with_step_and_images(tiny_class, scenes):
    class Diverges(tiny_class):
        def forward(self, images, targets=None):
            losses = super().forward(images, targets)
            self.calls = getattr(self, "calls", 0) + 1
            return {
                **losses,
                "loss_box": losses["loss_box"] * (float("nan") if self.calls == 3 else 1),
            }

    model = Diverges()
    with pytest.raises(TrainingDiverged) as caught:
        train(model, scenes(), TrainConfig(steps=9, batch_size=2))
    text = str(caught.value)
    assert "step 3" in text
    assert "image ids [" in text
    assert "loss_box nan" in text
    assert all(torch.isfinite(p).all() for p in model.parameters())  # as before the bad step


def test_best_is_kept_and_last_goes_on(tmp_path, fresh, scenes, monkeypatch):
    scores = iter([0.5, 0.9, 0.3])
    seen = []

    def judged(model, dataset, **options):
        seen.append(model.training)
        return Measured({"task": "detection", "mAP": next(scores), "per_class": []})

    monkeypatch.setattr(module, "evaluate", judged)
    config = TrainConfig(epochs=3, batch_size=8, eval_every=1)
    result = train(fresh(), scenes(), config, out=tmp_path, val=scenes("val"))
    assert result.best == 0.9
    assert result.metrics["mAP"] == 0.3
    best, last = (read(tmp_path / f"{n}.safetensors")[0] for n in ("best", "last"))
    assert (best.step, best.metrics["mAP"]) == (6, 0.9)
    assert (last.step, last.metrics["mAP"]) == (9, 0.3)
    assert last.training["eval_every"] == 1
    assert last.classes[3] == "3"


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_is_evaluated_at_the_score_of_evaluations(tmp_path, scenes, ema):
    model = create("ssd", 11, backbone="test_resnet", image_size=64, score_threshold=0.2)
    model.postprocess.published = True  # until it is trained
    config = TrainConfig(steps=1, batch_size=2, ema=ema)
    result = train(model, scenes(), config, out=tmp_path, val=scenes("val", 3))
    used = {"score": 0.001, "nms": 0.45, "max_detections": 100}
    assert result.metrics["thresholds"] == used
    assert model.postprocess.score_threshold == 0.2
    (row,) = rows(tmp_path / "val.csv")
    assert not {"score", "thresholds"} & set(row)
    # the run's checkpoint, and the trained model, score as the run said
    net, info = load(tmp_path / "last.safetensors")
    assert info.metrics["thresholds"] == used
    for one in (net, *([] if ema else [model])):
        again = evaluate(one, scenes("val", 3)).figures
        assert again["thresholds"] == used and again["mAP"] == result.metrics["mAP"]


def test_the_average_is_what_is_saved(tmp_path, fresh, scenes):
    model = fresh()
    train(model, scenes(), TrainConfig(steps=5, batch_size=4, ema=0.9, lr=0.1), out=tmp_path)
    saved = read(tmp_path / "last.safetensors")[1]
    assert not torch.equal(saved["net.0.weight"], model.net[0].weight)
    train(model, scenes(), TrainConfig(steps=5, batch_size=4, lr=0.1), out=tmp_path)
    saved = read(tmp_path / "last.safetensors")[1]
    assert torch.equal(saved["net.0.weight"], model.net[0].weight)


def test_interrupting_saves(tmp_path, fresh, scenes):
    class Watcher:
        def step(self, row, remaining, share):
            if row["step"] == 4:
                raise KeyboardInterrupt

        def evaluated(self, step, metrics):
            raise AssertionError("no evaluation after Ctrl-C")

    result = train(
        fresh(),
        scenes(),
        TrainConfig(steps=50, batch_size=2),
        out=tmp_path,
        val=scenes("val"),
        watcher=Watcher(),
    )
    assert result.interrupted
    assert read(tmp_path / "last.safetensors")[0].step == 4


def test_gradients_are_clipped(tmp_path, fresh, scenes):
    moved = {}
    for clip in (0.0, 1e-3):
        model = fresh()
        before = model.net[0].weight.detach().clone()
        config = TrainConfig(
            steps=1, batch_size=4, clip=clip, optimizer="sgd", lr=1, warmup=0, weight_decay=0
        )
        train(model, scenes(), config, out=tmp_path)
        moved[clip] = float((model.net[0].weight.detach() - before).norm())
    # Nesterov's first step is 1.9 gradients
    assert moved[1e-3] <= 1.9e-3 * 1.001 < moved[0.0]


def test_accumulated_gradients_are_those_of_the_whole_batch(fresh, scenes):
    moved = []
    for batch_size, accumulate in ((4, 1), (2, 2), (1, 4)):
        model = fresh()
        config = TrainConfig(
            steps=2,
            batch_size=batch_size,
            accumulate=accumulate,
            optimizer="sgd",
            lr=0.1,
            clip=0.1,
            freeze_norms=True,
        )
        result = train(model, scenes(), config)
        assert result.steps == 2
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    for other in moved[1:]:
        torch.testing.assert_close(other, moved[0], rtol=0, atol=1e-6)
    assert not torch.equal(moved[0], torch.cat([p.flatten() for p in fresh().parameters()]))


def test_what_is_frozen_stays(tmp_path, fresh, scenes):
    model = fresh()
    model.net[0].weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config = TrainConfig(
        epochs=2, batch_size=8, freeze_norms=True, eval_every=1, lr=0.1, weight_decay=1.0
    )
    train(model, scenes(), config, out=tmp_path, val=scenes("val", 4))
    after = model.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert moved == {"net.0.bias", "net.5.weight", "net.5.bias"}
    # the frozen parameters of the caller's model have not changed
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"net.0.weight"}
    # without the flag, the norm's statistics change with the batches
    train(fresh_again := fresh(), scenes(), TrainConfig(steps=2, batch_size=8))
    assert not torch.equal(
        fresh_again.state_dict()["net.1.running_mean"], before["net.1.running_mean"]
    )


def test_patience_ends_a_run_that_gets_no_better(tmp_path, fresh, scenes, monkeypatch):
    scores = iter([0.2, 0.5, 0.5, 0.4, 0.9])

    def judged(model, dataset, **options):
        return Measured({"mAP": next(scores), "AP50": None, "per_class": []})

    monkeypatch.setattr(module, "evaluate", judged)
    config = TrainConfig(epochs=9, batch_size=8, eval_every=1, patience=2)
    result = train(fresh(), scenes(), config, out=tmp_path, val=scenes("val"))
    assert (result.stopped_early, result.interrupted) == (True, False)
    assert (result.steps, result.best, result.metrics["mAP"]) == (12, 0.5, 0.4)
    assert [r["mAP"] for r in rows(tmp_path / "val.csv")] == [0.2, 0.5, 0.5, 0.4]
    assert read(tmp_path / "best.safetensors")[0].step == 9
    again = train(fresh(), scenes(), config, out=tmp_path, val=scenes("val"), resume=True)
    assert (again.stopped_early, again.steps) == (True, 12)


def test_patience_without_anything_to_judge(fresh, scenes):
    config = TrainConfig(steps=1, eval_every=1, patience=2)
    with pytest.raises(ValueError, match="there is no val data"):
        train(fresh(), scenes(), config)


def test_a_gradient_of_nan_stops_before_the_weights_are_touched(tmp_path, tiny_class, scenes):
    class Diverges(tiny_class):
        def forward(self, images, targets=None):
            losses = super().forward(images, targets)
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 4:
                zero = self.net[5].bias.sum() * 0
                losses["loss_box"] = losses["loss_box"] + zero.sqrt()  # 0, with gradient 0 * inf
            return losses

    torch.manual_seed(0)
    config = TrainConfig(steps=9, batch_size=2, save_steps=1)
    with pytest.raises(
        TrainingDiverged, match=r"the gradient became nan at step 4 .*image ids \[.*after step 3$"
    ):
        train(model := Diverges(), scenes(), config, out=tmp_path)
    info, saved = read(tmp_path / "last.safetensors")
    assert info.step == 3
    assert all(
        torch.equal(v, saved[k])
        for k, v in model.state_dict().items()
        if "running" not in k and "num" not in k
    )
    assert all(v.isfinite().all() for v in saved.values())


def test_half_precision_needs_a_gpu(fresh, scenes):
    with pytest.raises(ValueError, match="precision fp16 needs a GPU"):
        train(fresh(), scenes(), TrainConfig(steps=1, precision="fp16", device="cpu"))


def test_augmentation_is_applied(fresh, scenes):
    seen = []

    def note(image, target):
        seen.append(target["image_id"])
        return image, target

    train(fresh(), scenes(), TrainConfig(steps=2, batch_size=3), augment=note)
    assert len(seen) >= 6


def test_mixed_precision_is_for_training_alone(fresh, scenes, monkeypatch):
    seen = []
    model, run_forward = fresh(), type(fresh()).forward

    def note(self, images, targets=None):
        seen.append((self.training, torch.is_autocast_enabled("cpu")))
        return run_forward(self, images, targets)

    monkeypatch.setattr(type(model), "forward", note)
    config = TrainConfig(steps=2, batch_size=4, precision="bf16", device="cpu")
    result = train(model, scenes(), config, val=scenes("val", 4))
    assert set(seen) == {(True, True), (False, False)}
    assert "forward" not in vars(model)
    assert result.metrics["images"] == 4
    seen.clear()
    train(model, scenes(), TrainConfig(steps=1, batch_size=4, device="cpu"))  # back on the CPU
    assert seen == [(True, False)]


def test_an_earlier_runs_best_is_not_taken_for_this_ones(tmp_path, fresh, scenes):
    for name in ("best.safetensors", "best.json"):
        (tmp_path / name).write_text("old")
    train(fresh(), scenes(), TrainConfig(steps=1, batch_size=2), out=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "last.json",
        "last.safetensors",
        "last.state.safetensors",
        "log.csv",
    ]


def test_a_batch_too_small_for_a_norm_is_a_sentence():
    from detcore.models import create

    model = create("classifier", 10, backbone="test_resnet", image_size=32)
    config = TrainConfig(steps=1, batch_size=1, device="cpu")
    with pytest.raises(ConfigError, match=r"one value to average: .*--batch-size of 2"):
        train(model, DigitPatches("train", length=4), config)
