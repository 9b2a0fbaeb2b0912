import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detcore.data import DataError
from detcore.inference.input_sources import Frame
from detcore.inference.output_writer import Gallery, free_name
from detcore.inference.predict_loop import Settings, annotate
from detcore.utils.errors import UsageError
from tests.helpers.films import INFO, Finder, fake_opencv, scene


def frames(name, *shots):
    """A video of shots."""
    return [Frame(name, pixels(shot), k, 10.0) for k, shot in enumerate(shots)]


def pixels(shot):
    return torch.from_numpy(shot).permute(2, 0, 1)


def run(shots, *, net=None, out=None, pictures=1, videos=0, **settings):
    said, shown = [], []
    with Gallery(out, INFO.classes, pictures=pictures, videos=videos) as gallery:
        answers = annotate(
            net or Finder(),
            INFO,
            shots,
            settings=Settings(**settings),
            gallery=gallery,
            say=said.append,
            show=shown.append,
            total=None if videos else pictures,
        )
    return answers, said, shown


def test_pictures_go_through_the_model_in_batches():
    net = Finder()
    shots = [Frame(f"{k}.png", pixels(scene(red=(k, 4)))) for k in range(5)]
    answers, said, shown = run(shots, net=net, pictures=5, batch_size=2)
    assert net.calls == [2, 2, 1]
    assert [a["detections"][0]["box"] for a in answers] == [[k, 4, k + 12, 16] for k in range(5)]
    assert "track" not in answers[0]["detections"][0] and "frame" not in answers[0]
    assert said == [f"{k}.png: 1 red" for k in range(5)]
    assert shown[-1] == "predicting 5/5"


def test_in_a_video_objects_keep_their_numbers():
    # red and blue cross; blue is missing in two frames; a second red object comes at the end
    film = [scene(red=(4 * k, 10), blue=(48 - 4 * k, 12) if k not in (5, 6) else None)
            for k in range(10)]  # fmt: skip
    answers, said, shown = run(frames("film.mp4", *film), videos=1, batch_size=4)
    assert [a["frame"] for a in answers] == list(range(10))
    tracks = [{d["class"]: d["track"] for d in a["detections"]} for a in answers]
    for k, found in enumerate(tracks):
        assert found == ({"red": 1} if k in (5, 6) else {"red": 1, "blue": 2})
    assert said == ["film.mp4: 10 frames, 1 blue, 1 red"]
    assert shown[-1] == "predicting film.mp4, frame 10"


def test_each_video_counts_for_itself():
    still = [scene(red=(10, 10))] * 2
    both = frames("a.mp4", *still) + frames("b.mp4", *still) + frames("b.mp4", scene())
    answers, said, _ = run(both, pictures=3, videos=3)
    assert [d["track"] for a in answers for d in a["detections"]] == [1, 1, 1, 1]
    assert said == [
        "a.mp4: 2 frames, 1 red", "b.mp4: 2 frames, 1 red", "b.mp4: 1 frame, nothing found"
    ]  # fmt: skip


def test_an_unsure_sighting_keeps_the_number_and_is_not_shown():
    film = frames("film.mp4", *[scene(red=(6 * k, 10)) for k in range(5)])

    class Doubting(Finder):
        def forward(self, images):
            found = super().forward(images)
            for one, image in zip(found, images, strict=True):
                if image[0, 12, 14] > 0.5 and image[0, 12, 8] < 0.5:  # the third frame
                    one["scores"] = one["scores"] * 0.4
            return found

    answers, _, _ = run(film, net=Doubting(), videos=1, score=0.5)
    assert [[d["track"] for d in a["detections"]] for a in answers] == [[1], [1], [], [1], [1]]


def test_below_the_confidence_nothing_is_shown():
    answers, said, _ = run([Frame("x.png", pixels(scene(red=(1, 1))))], score=0.95)
    assert answers[0]["detections"] == []
    assert said == ["x.png: nothing found (the best has a score of 0.90; --score 0.89 shows it)"]


def test_a_camera_ends_with_ctrl_c_and_still_answers():
    def stream():
        yield from frames("camera:0", scene(red=(3, 3)))
        raise KeyboardInterrupt

    answers, said, _ = run(stream(), videos=1, batch_size=1, endless=True)
    assert len(answers) == 1 and said == ["camera:0: 1 frame, 1 red"]
    with pytest.raises(KeyboardInterrupt):
        run(stream(), videos=1, batch_size=1)


def test_frames_are_drawn_into_a_folder(tmp_path):
    film = frames("dir/film.mp4", scene(red=(3, 3)), scene(red=(6, 3)))
    run(film, out=tmp_path / "out", videos=1)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "film-000000.png", "film-000001.png"
    }  # fmt: skip


def test_a_video_is_drawn_into_a_video(tmp_path, monkeypatch):
    cv2 = fake_opencv({})
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    film = frames("film.mov", *[scene(red=(10 + k, 20)) for k in range(3)])
    out = tmp_path / "new" / "out.mp4"
    run(film, out=out, videos=1)
    written = cv2.written[str(out)]
    assert (written["codec"], written["rate"], len(written["frames"])) == ("mp4v", 10, 3)
    assert cv2.released == [str(out)]
    # the drawn picture is enlarged by 8, and red is red
    first = written["frames"][0]
    assert first.shape == (384, 512, 3)
    assert first[200, 120].tolist() == [255, 0, 0]
    with pytest.raises(DataError, match=r"refused\.mp4: OpenCV can't write a video of 10 frames"):
        run(film, out=tmp_path / "refused.mp4", videos=1)


def test_a_real_video_is_written(tmp_path):
    film = frames("film.mov", *[scene(red=(10 + k, 20)) for k in range(3)])
    run(film, out=tmp_path / "out.mp4", videos=1)
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    there, shot = capture.read()
    assert there and shot.shape == (384, 512, 3)
    assert np.abs(shot[200, 120].astype(int) - (0, 0, 255)).max() < 60


def test_what_does_not_fit_out_is_refused(tmp_path):
    for name, pictures, videos, words in (
        ("x.png", 2, 0, "--out must be a folder for 2 pictures"),
        ("x.jpg", 1, 1, "--out must be a folder for the frames of a video"),
        ("x.mp4", 1, 0, r"x\.mp4 is for one video, got 1 file, 0 videos"),
        ("x.mp4", 2, 2, "is for one video, got 2 files, 2 videos"),
    ):
        with pytest.raises(UsageError, match=words):
            Gallery(tmp_path / name, [], pictures=pictures, videos=videos)
    Gallery(tmp_path / "x.png", [], pictures=1)


def test_a_suffix_that_is_none_of_ours_is_a_folders_only_if_it_is_there(tmp_path):
    for name in ("x.webp", "x.tif", "x.BMP"):
        run([Frame("a.png", pixels(scene()))], out=tmp_path / name)
        assert Image.open(tmp_path / name).size == (512, 384)
    with pytest.raises(UsageError, match=r"x\.mov: a picture is written as \.png, .*make it first"):
        Gallery(tmp_path / "x.mov", [], pictures=1)
    (tmp_path / "x.mov").mkdir()
    run([Frame("a.png", pixels(scene()))], out=tmp_path / "x.mov")
    assert (tmp_path / "x.mov" / "a.png").is_file()


def test_a_tracked_box_has_its_number_in_its_tag(tmp_path):
    shot = scene(red=(20, 30))
    run([Frame("x.png", pixels(shot))], out=tmp_path / "plain.png")
    run(frames("x.mp4", shot), out=tmp_path / "film", videos=1)
    plain, tracked = (
        np.asarray(Image.open(tmp_path / p)) for p in ("plain.png", "film/x-000000.png")
    )
    assert plain.shape == tracked.shape
    assert (plain != tracked).any()


def test_names_are_never_used_twice():
    taken = {"overview.png"}
    assert free_name("a/x.jpg", None, ".png", taken) == "x.png"
    assert free_name("b/x.jpg", None, ".png", taken) == "x-2.png"
    assert free_name("overview.jpg", None, ".png", taken) == "overview-2.png"
    assert free_name("camera:0", 3, ".png", taken) == "camera-0-000003.png"
    assert free_name("rtsp://host/live", 0, ".txt", taken) == "live-000000.txt"


def test_a_weak_model_says_how_near_it_came():
    shots = [Frame("a.png", pixels(scene(red=(4, 4))))]
    _, said, _ = run(shots, net=Finder(scores=(0.316, 0.2)))
    assert said == ["a.png: nothing found (the best has a score of 0.32; --score 0.31 shows it)"]
    _, said, _ = run(shots, net=Finder(scores=(0.316, 0.2)), score=0.31)
    assert said == ["a.png: 1 red"]
    _, said, _ = run([Frame("b.png", pixels(scene()))])
    assert said == ["b.png: nothing found"]
