"""The folder of a run may contain other files, be on a full disk, or belong to another run."""

import resource
import stat
from contextlib import contextmanager

import pytest
from filelock import FileLock

from detcore.training import run_lock
from detcore.training.config import TrainConfig
from detcore.training.run_files import RUN_FILES
from detcore.training.run_lock import RunInUse
from detcore.training.trainer import train
from detcore.utils.errors import WriteError
from tests.helpers.runs import data, noisy

CONFIG = TrainConfig(steps=2, batch_size=2, device="cpu", log_every=1)
THEIRS = (
    *(".env.2024.bak", ".notes.1.txt", ".photo.20240101.jpg", "best.friend.txt", "last.will.pdf"),
    *("mine.safetensors", "last.safetensors.bak", "best.onnx"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


@contextmanager
def files_up_to(size):
    """Limit the size of each file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_of_others_stay(tmp_path):
    for name in THEIRS:
        (tmp_path / name).write_text(name)
    train(noisy(), data(), CONFIG, out=tmp_path)
    train(noisy(), data(), CONFIG, out=tmp_path)
    assert {n: (tmp_path / n).read_text() for n in THEIRS} == {n: n for n in THEIRS}
    ours = {p.name for p in tmp_path.iterdir()} - set(THEIRS)
    assert ours <= set(RUN_FILES)


def test_two_trainings_do_not_share_a_folder(tmp_path):
    with FileLock(str(tmp_path / run_lock.NAME)):
        (tmp_path / ".training.owner").write_text("process 7 on there\n")
        with pytest.raises(RunInUse, match=r"writes here already \(process 7 on there\)"):
            train(noisy(), data(), CONFIG, out=tmp_path)
    assert not (tmp_path / "log.csv").exists()
    run_lock.hold(tmp_path)
    train(noisy(), data(), CONFIG, out=tmp_path)  # locked by this process
    with pytest.raises(Exception, match="lock"):
        FileLock(str(tmp_path / run_lock.NAME), timeout=0).acquire()
    run_lock.release(tmp_path)
    FileLock(str(tmp_path / run_lock.NAME), timeout=0).acquire()


def test_a_full_disk_is_one_sentence_and_costs_nothing_saved(tmp_path):
    train(noisy(), data(), CONFIG, out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if "safetensors" in p.name}
    longer = TrainConfig(steps=2, batch_size=2, device="cpu", log_every=1, save_steps=1)
    with (
        files_up_to(2000),
        pytest.raises(
            WriteError, match=r"last.state.safetensors: can't be written \(.*large.*nothing was"
        ),
    ):
        train(noisy(), data(), longer, out=tmp_path / "other")
    with files_up_to(2000), pytest.raises(WriteError, match="what was there before is whole"):
        train(noisy(), data(), CONFIG, out=tmp_path, resume=True)
    assert {n: (tmp_path / n).read_bytes() for n in before} == before
    assert not list(tmp_path.glob(".*.*.safetensors"))


def test_rights_are_those_of_the_umask(tmp_path):
    train(noisy(), data(), CONFIG, out=tmp_path)
    (tmp_path / "plain").touch()
    wanted = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {wanted}
