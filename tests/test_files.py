"""Files that are whole or absent, and folders that one process works in."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from espnet_shrink.errors import ShrinkError
from espnet_shrink.files import claim_folder, lock_folder, write_atomically, write_text

HOLDER = textwrap.dedent(
    """
    import sys, time
    from espnet_shrink.files import lock_folder
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
    [({"seed": 1}, "seed"), ({"grid": {"a": [1, 2]}}, "grid"), ({"extra": 3}, "extra")],
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
