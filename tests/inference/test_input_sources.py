import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from detcore.data import DataError
from detcore.inference.input_sources import find_sources, read_frames
from detcore.utils.errors import UsageError
from detcore.utils.optional_imports import MissingPackage
from tests.helpers.films import fake_opencv, scene


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "a.jpg", "sub/c.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(scene(red=(5, 5))).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    return tmp_path


def names(sources, root):
    return [s.name.removeprefix(f"{root}/") for s in sources]


def test_files_folders_and_patterns(photos):
    assert names(find_sources([str(photos)]), photos) == ["a.jpg", "b.png"]
    assert names(find_sources([f"{photos}/*"]), photos) == ["a.jpg", "b.png"]
    assert names(find_sources([f"{photos}/**/*"]), photos) == ["a.jpg", "b.png", "sub/c.PNG"]
    given = [f"{photos}/b.png", f"{photos}/sub"]
    assert names(find_sources(given), photos) == ["b.png", "sub/c.PNG"]
    # a file name that looks like a pattern means that file
    (photos / "x[1].png").write_bytes((photos / "b.png").read_bytes())
    assert names(find_sources([f"{photos}/x[1].png"]), photos) == ["x[1].png"]
    with pytest.raises(UsageError, match=r"no pictures or videos match .*\*\.webp"):
        find_sources([f"{photos}/*.webp"])
    (photos / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no pictures in .*empty"):
        find_sources([f"{photos}/empty"])


def test_a_missing_picture_is_named(photos):
    with pytest.raises(DataError, match=r"no\.png: no such picture"):
        list(read_frames(find_sources([f"{photos}/no.png"])))


def test_a_damaged_picture_of_a_folder_is_left_out_and_named(photos, caplog):
    (photos / "a.jpg").write_bytes(b"no picture")
    for given in (str(photos), f"{photos}/*.[jp]*g"):
        caplog.clear()
        frames = list(read_frames(find_sources([given])))
        assert [f.name for f in frames] == [f"{photos}/b.png"]
        (line,) = caplog.messages
        assert "a.jpg: not a readable picture" in line and line.endswith("; left out")
    with pytest.raises(DataError, match=r"a\.jpg: not a readable picture"):
        list(read_frames(find_sources([f"{photos}/a.jpg"])))


def test_videos_are_read_frame_by_frame(tmp_path, monkeypatch):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"")
    shots = [scene(red=(k, 0)) for k in range(5)]
    cv2 = fake_opencv({str(film): shots, 0: shots[:2]})
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    frames = list(read_frames(find_sources([str(film)])))
    assert [f.number for f in frames] == [0, 1, 2, 3, 4]
    assert all(f.name == str(film) and f.rate == 10 for f in frames)
    # red comes first in the tensor, although OpenCV has blue first
    assert (frames[3].image.permute(1, 2, 0).numpy() == shots[3]).all()
    assert cv2.released == [str(film)]
    assert len(list(read_frames(find_sources([str(film)]), limit=2))) == 2
    (camera,) = find_sources(["camera:0"])
    assert camera.endless and len(list(read_frames([camera]))) == 2


def test_a_rate_that_makes_no_sense_becomes_25(tmp_path, monkeypatch):
    for rate in (0.0, float("nan")):
        cv2 = fake_opencv({0: [scene()]}, rate=rate)
        monkeypatch.setitem(sys.modules, "cv2", cv2)
        assert next(read_frames(find_sources(["camera:0"]))).rate == 25


def test_videos_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "empty.avi").write_bytes(b"")
    cv2 = fake_opencv({str(tmp_path / "empty.avi"): []})
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    (tmp_path / "broken.avi").write_bytes(b"")
    for given, words in (
        (f"{tmp_path}/empty.avi", "empty.avi: no frame of it could be read"),
        (f"{tmp_path}/broken.avi", "broken.avi: OpenCV can't open it"),
        (f"{tmp_path}/no.mp4", "no.mp4: no such video"),
        ("camera:7", "camera:7: OpenCV can't open it"),
        ("rtsp://nobody/1", "rtsp://nobody/1: OpenCV can't open it"),
    ):
        with pytest.raises(DataError, match=words):
            list(read_frames(find_sources([given])))
    with pytest.raises(UsageError, match="such as camera:0, got camera:front"):
        list(read_frames(find_sources(["camera:front"])))


def test_without_opencv_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackage) as error:
        find_sources(["film.mp4"])
    assert str(error.value) == (
        "this part of detcore needs opencv-python-headless: "
        "pip install 'detcore[video]' (or opencv-python-headless alone)"
    )


def test_a_real_video(tmp_path):
    film = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(film, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for k in range(4):
        writer.write(scene(red=(8 * k, 16))[..., ::-1].copy())
    writer.release()
    frames = list(read_frames(find_sources([film])))
    assert [f.number for f in frames] == [0, 1, 2, 3]
    assert frames[0].rate == pytest.approx(10)
    for k, frame in enumerate(frames):
        wanted = scene(red=(8 * k, 16)).astype(float)
        # JPEG halves the resolution of colour
        assert np.abs(frame.image.permute(1, 2, 0).numpy() - wanted).mean() < 8
