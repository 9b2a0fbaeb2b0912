import itertools

import pytest
from matplotlib.figure import Figure
from PIL import Image

from detcore.training.loss_curve import loss_curve


def test_loss_curve(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(
        "step,epoch,seconds,lr,grad_norm,loss,loss_box,loss_class\n"
        "1,0.1,1,0.001,2,3,1,2\n2,0.2,2,0.0005,2,2,1,1\n"
    )
    loss_curve(log, tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (880, 550)
        assert len(set(picture.convert("L").resize((88, 55)).tobytes())) > 10
    val = tmp_path / "val.csv"
    loss_curve(log, tmp_path / "same.png", val)
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "loss.png").read_bytes()
    val.write_text("step,epoch,mAP,AP50,recall\n1,0.1,0.2,0.4,nan\n2,0.2,0.3,0.5,0.1\n")
    loss_curve(log, tmp_path / "scores.png", val)
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.size == (880, 715)  # with one more panel
    log.write_text("step,loss\n")
    with pytest.raises(ValueError, match="has no rows"):
        loss_curve(log, tmp_path / "loss.png")


@pytest.mark.parametrize(
    ("losses", "labels"),
    [
        ((8, 3, 0.3), ["0.5", "1", "2", "5"]),
        ((2, 0.3, 0.02), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]),
        ((0.9, 0.8, 0.65), ["0.65", "0.7", "0.75", "0.8", "0.85", "0.9"]),
        ((1000, 1, 0.001), ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]),
        ((0, 0, 0), ["\u22120.04", "\u22120.02", "0.00", "0.02", "0.04"]),  # a single class
    ],
)
def test_labels_of_losses_stay_apart(tmp_path, monkeypatch, losses, labels):
    drawn, save = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    log = tmp_path / "log.csv"
    rows = (f"{k},0.1,{loss}\n" for k, loss in enumerate(losses, 1))
    log.write_text("step,lr,loss\n" + "".join(rows))
    loss_curve(log, tmp_path / "loss.png")
    axes = drawn[0].axes[0]
    low, high = axes.get_ylim()
    both = (*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks())
    texts = [t.label1 for t in both if low <= t.get_loc() <= high and t.label1.get_text()]
    assert [t.get_text() for t in texts] == labels
    heights = [(box.y0, box.y1) for box in (t.get_window_extent() for t in texts)]
    assert all(below[1] < above[0] for below, above in itertools.pairwise(heights))
