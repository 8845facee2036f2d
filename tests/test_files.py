"""Files that are whole or absent, and folders that one process works in."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from espnet_shrink.core.files import (
    MADE_WITH,
    claim_folder,
    lock_folder,
    write_atomically,
    write_text,
)
from espnet_shrink.errors import ShrinkError

HOLDER = textwrap.dedent(
    """
    import sys, time
    from espnet_shrink.core.files import lock_folder
    with lock_folder(sys.argv[1]):
        print("held", flush=True)
        time.sleep(600)
    """
)


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/work."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "work")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("one\n", "zwölf\n"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert names(path.parent) == ["a.txt"]


def test_the_file_is_absent_until_the_block_ends_and_keeps_its_suffix(tmp_path):
    path = tmp_path / "model.pth"
    with write_atomically(path) as beside:
        beside.write_bytes(b"x")
        assert beside.suffix == ".pth" and not path.exists()
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.EIO, "io")])
def test_an_exception_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(type(error)), write_atomically(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("content", ["text", "tensors", "error over error"])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, content):
    path = tmp_path / "a.pt"
    write_text(path, "old")
    with (
        pytest.raises(ShrinkError, match=r"no space left .*a\.pt") as caught,
        write_atomically(path) as beside,
    ):
        beside.symlink_to("/dev/full")  # the kernel answers every write with ENOSPC
        if content == "text":
            beside.write_text("new")
        elif content == "error over error":  # as torch's writer ends when the disk fills midway
            try:
                beside.write_text("new")
            finally:
                raise RuntimeError("unexpected pos 768 vs 662")
        else:
            with beside.open("wb") as handle:
                torch.save({"a": torch.zeros(10_000)}, handle)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old" and names(tmp_path) == ["a.pt"]


def test_a_second_process_is_refused_while_the_first_is_at_work(tmp_path, holder):
    with pytest.raises(ShrinkError, match="work is in use by another run") as caught:
        with lock_folder(tmp_path / "work"):
            pytest.fail("two processes at work")
    assert "\n" not in str(caught.value)
    with lock_folder(tmp_path / "other"):
        pass


def test_a_killed_process_lets_go_of_its_folder(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lock_folder(tmp_path / "work"):
        pass


def test_a_folder_is_free_again_after_the_block_and_after_an_exception(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError), lock_folder(tmp_path / "work"):
            raise ValueError
    with lock_folder(tmp_path / "work"):
        pass


RECORD = {
    "seed": 0,
    "rate": 1e-5,
    "on": True,
    "none": None,
    "grid": {"a": [1, 2, "dense"]},
    "text": "1e-5",
}


def test_a_folder_is_claimed_once_and_taken_up_again(tmp_path):
    claim_folder(tmp_path, RECORD)
    before = (tmp_path / "settings.yaml").read_bytes()
    claim_folder(tmp_path, dict(reversed(RECORD.items())))
    assert (tmp_path / "settings.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "key"),
    [({"seed": 1}, "seed"), ({"grid": {"a": [1, 2]}}, "grid.a"), ({"none": 3}, "none")],
)
def test_a_folder_of_other_settings_is_refused_and_unchanged(tmp_path, change, key):
    claim_folder(tmp_path, RECORD)
    before = (tmp_path / "settings.yaml").read_bytes()
    with pytest.raises(ShrinkError, match=rf"other settings \({key} was") as caught:
        claim_folder(tmp_path, {**RECORD, **change})
    assert "\n" not in str(caught.value)
    assert (tmp_path / "settings.yaml").read_bytes() == before


def test_a_setting_that_is_gone_is_a_change_too(tmp_path):
    claim_folder(tmp_path, RECORD)
    with pytest.raises(ShrinkError, match="seed was 0, now None"):
        claim_folder(tmp_path, {key: value for key, value in RECORD.items() if key != "seed"})


def test_a_record_that_lacks_a_key_is_of_an_earlier_version(tmp_path):
    claim_folder(tmp_path, RECORD)
    with pytest.raises(ShrinkError, match="made by an earlier version .* says nothing of extra"):
        claim_folder(tmp_path, {**RECORD, "extra": 3})


def test_what_a_folder_was_made_with_is_told_and_no_reason_to_refuse(tmp_path, capsys):
    claim_folder(tmp_path, {**RECORD, MADE_WITH: {"espnet": "202511"}})
    claim_folder(tmp_path, {**RECORD, MADE_WITH: {"espnet": "202611"}})
    assert "was begun with espnet 202511; this is 202611" in capsys.readouterr().out


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_to_be_so(tmp_path, monkeypatch, code):
    """The kernel's answer on such a file system; the lock that filelock takes there instead
    would outlive a killed run."""

    def flock(fd, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ShrinkError, match="work has no file locks") as caught:
        with lock_folder(tmp_path / "work"):
            pytest.fail("not locked")
    assert "in use" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_lock_file_that_nobody_holds_is_no_lock(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".lock").write_text("12345\n")
    with lock_folder(tmp_path / "work"):
        pass


@pytest.fixture
def nobody(tmp_path):
    """This process without root's right to write anywhere."""
    folder = tmp_path / "others"
    folder.mkdir(mode=0o755)
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    opened = [path for path in (tmp_path, *tmp_path.parents) if not path.stat().st_mode & 0o001]
    modes = {path: path.stat().st_mode for path in opened}
    for path in opened:
        path.chmod(0o755)
    os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_folder_that_may_not_be_written_to_is_its_own_line(nobody):
    for folder in (nobody, nobody / "new"):
        with pytest.raises(ShrinkError, match="cannot be written to: permission denied") as caught:
            with lock_folder(folder):
                pytest.fail("not locked")
        assert "in use" not in str(caught.value)
    with pytest.raises(ShrinkError, match=r"cannot write .*a\.txt: permission denied"):
        write_text(nobody / "a.txt", "x")
    with pytest.raises(ShrinkError, match=r"cannot write .*a\.txt: permission denied"):
        write_text(nobody / "new" / "a.txt", "x")


def test_a_file_in_the_place_of_a_folder_is_said_to_be_one(tmp_path):
    write_text(tmp_path / "file", "x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ShrinkError, match="file, not a folder"):
            with lock_folder(folder):
                pytest.fail("not locked")
