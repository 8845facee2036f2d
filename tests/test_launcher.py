"""python -m espnet_shrink.run: usage, exit statuses, and checkpoints that are written whole."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_shrink.compat import hooks
from espnet_shrink.errors import ShrinkError


@pytest.fixture
def save(monkeypatch):
    """torch.save as the launcher leaves it."""
    monkeypatch.setattr(torch, "save", torch.save)  # put back at the end
    hooks.save_checkpoints_whole()
    return torch.save


class Fails:
    """Pickling it raises."""

    def __reduce__(self):
        raise KeyboardInterrupt


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((300, 300), value)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_interrupted_save_leaves_the_old_checkpoint_and_nothing_beside_it(save, tmp_path):
    path = tmp_path / "model.pth"
    save(weights(1.0), path)
    with pytest.raises(KeyboardInterrupt):
        save([weights(2.0), Fails()], path)
    assert torch.equal(torch.load(path)["weight"], weights(1.0)["weight"])
    assert names(tmp_path) == ["model.pth"]


KILLED = """
import os, signal, sys, torch
from espnet_shrink.compat import hooks
hooks.save_checkpoints_whole()
class Kill:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)
torch.save({"epoch": 1}, sys.argv[1])
torch.save([torch.zeros(300, 300), Kill()], sys.argv[1])
"""


def test_a_kill_during_a_save_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "model.pth"
    done = subprocess.run([sys.executable, "-c", KILLED, path])
    assert done.returncode == -signal.SIGKILL
    assert torch.load(path) == {"epoch": 1}


def training_state(epoch: int, rest: object = None) -> dict:
    return {"model": weights(float(epoch)), "reporter": {"epoch": epoch}, "optimizers": [rest]}


def test_the_model_of_an_epoch_is_there_before_its_checkpoint(save, tmp_path):
    save(training_state(1), tmp_path / "checkpoint.pth")
    assert names(tmp_path) == ["1epoch.pth", "checkpoint.pth"]
    assert torch.equal(torch.load(tmp_path / "1epoch.pth")["weight"], weights(1.0)["weight"])
    with pytest.raises(KeyboardInterrupt):
        save(training_state(2, Fails()), tmp_path / "checkpoint.pth")
    assert names(tmp_path) == ["1epoch.pth", "2epoch.pth", "checkpoint.pth"]
    assert torch.load(tmp_path / "checkpoint.pth")["reporter"] == {"epoch": 1}


def test_only_training_states_bring_a_model_along(save, tmp_path):
    save(weights(1.0), tmp_path / "checkpoint.pth")
    save(training_state(1), tmp_path / "other.pth")
    assert names(tmp_path) == ["checkpoint.pth", "other.pth"]


@pytest.mark.parametrize("kind", [str, Path])
def test_saving_to_paths_and_handles_works_as_before(save, tmp_path, kind):
    buffer = io.BytesIO()
    save(weights(3.0), kind(tmp_path / "model.pth"))
    save(weights(3.0), f=buffer)
    buffer.seek(0)
    for found in (torch.load(tmp_path / "model.pth"), torch.load(buffer)):
        assert torch.equal(found["weight"], weights(3.0)["weight"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(save, tmp_path):
    save(weights(1.0), tmp_path / "model.pth")
    (tmp_path / f".model.{os.getpid()}.part.pth").symlink_to("/dev/full")
    with pytest.raises(ShrinkError, match=r"no space left .*model\.pth"):
        save(weights(2.0), tmp_path / "model.pth")
    assert torch.equal(torch.load(tmp_path / "model.pth")["weight"], weights(1.0)["weight"])
    assert names(tmp_path) == ["model.pth"]


def launch(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "espnet_shrink.run", *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [[], ["-m"], ["--version"], ["-m", "-x"], ["--extras", "a.yaml"]]
)
def test_wrong_usage_is_one_line_and_exit_status_2(monkeypatch, capsys, arguments):
    from espnet_shrink import run

    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        run.main()
    assert caught.value.code == 2
    written = capsys.readouterr()
    assert written.out == "" and written.err == run.USAGE + "\n"


SCRIPT = """
import sys
from torch import nn
from espnet2.layers.create_adapter import create_adapter_fn_table
from espnet2.text.char_tokenizer import CharTokenizer
from espnet_shrink.errors import ShrinkError
assert __name__ == "__main__"
assert "espnet_shrink" in create_adapter_fn_table
assert nn.LSTM.forward.runs_padded
assert "check_argument_types_internal" not in CharTokenizer.__init__.__code__.co_names
print(sys.argv[1:])
if sys.argv[1] == "fail":
    raise ShrinkError("give me something better")
sys.exit(int(sys.argv[1]))
"""


def test_a_program_runs_with_the_plugin_its_arguments_and_its_exit_status(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    done = launch(script, 3, "--more", "a b")
    assert (done.returncode, done.stdout) == (3, "['3', '--more', 'a b']\n"), done.stderr
    done = launch(script, "fail")
    assert (done.returncode, done.stderr) == (2, f"{script}: give me something better\n")


def test_a_module_is_run_as_python_runs_it():
    done = launch("-m", "json.tool", "--help")
    assert done.returncode == 0 and "json.tool" in done.stdout
