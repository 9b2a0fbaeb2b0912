"""The example that goes from KITTI's boxes to suppression and a picture from above."""

import math
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples/kitti_birdseye.py"
CAR = "Car 0.00 0 1.55 614 181 727 284 1.57 1.73 4.15 {x} 1.75 {z} {turn}"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(FILE))


def called(example, capsys, *arguments):
    example["main"]([str(a) for a in arguments])
    return capsys.readouterr().out


def test_it_runs_as_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, str(FILE), "--out", str(tmp_path / "a.png")],
        capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.endswith(f"15 boxes, 7 kept; the picture is {tmp_path / 'a.png'}\n")
    assert done.stdout.count(" m ahead,") == 7


def test_the_picture_shows_kept_and_dropped_boxes(example, tmp_path, capsys):
    called(example, capsys, "--out", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (836, 484)
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ("#2f81c7", "#e08a1e", "#3a9d5d", "#8a8f98"):
        wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        assert (np.abs(seen - np.array(wanted)).max(1) < 12).sum() > 20, colour


def test_labels_and_results_of_ones_own(example, tmp_path, capsys):
    region = "DontCare -1 -1 -10 503 169 590 190 -1 -1 -1 -1000 -1000 -1000 -10"
    cars = [CAR.format(x=1, z=13, turn=1.62), CAR.format(x=1.2, z=13.2, turn=1.6)]
    file = tmp_path / "000000.txt"
    file.write_text("\n".join([*cars, region]) + "\n")
    text = called(example, capsys, file, "--out", tmp_path / "a.png")
    assert "Car          score 1.00,  13.0 m ahead,  -1.0 m to the left" in text
    assert "2 boxes, 1 kept" in text
    file.write_text(f"{cars[0]} 0.3\n{cars[1]} 0.4\n")
    text = called(example, capsys, file, "--out", tmp_path / "a.png")
    assert "Car          score 0.40,  13.2 m ahead,  -1.2 m to the left" in text
    assert "2 boxes, 2 kept" in called(
        example, capsys, file, "--iou", 1, "--out", tmp_path / "b.png"
    )
    file.write_text("")
    assert "0 boxes, 0 kept" in called(example, capsys, file, "--out", tmp_path / "a.png")
    file.write_text("Car 1 2\n")
    with pytest.raises(SystemExit, match=r"error: .*000000.txt: line 1 has 3 columns, wanted 15"):
        called(example, capsys, file, "--out", tmp_path / "a.png")


def test_the_front_is_where_the_car_drives_to(example):
    """At (10, 5), 4 m by 2 m, turned left by a right angle: its front is 2 m to the left."""
    corners = example["outlines"](torch.tensor([[10.0, 5, 0, 4, 2, 1.5, math.pi / 2]]))
    front, back = corners[0, :2].mean(0), corners[0, 2:].mean(0)
    assert front.tolist() == pytest.approx([10, 7])
    assert back.tolist() == pytest.approx([10, 3])
    assert sorted(corners[0, :, 0].tolist()) == pytest.approx([9, 9, 11, 11])
