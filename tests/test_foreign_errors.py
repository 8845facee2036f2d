"""Whatever another library raises is one line that names what it was about; --debug shows more."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ENVIRONMENT, tree

from espnet_shrink import cli
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError, first_line, working_on

DATA = ["--data", "dump/raw/dev"]
VERBS = {
    "proxy": ["--exp", "exp/asr", *DATA, "--size", 4],
    "search": ["--exp", "exp/asr", *DATA, "--proxy", "dump/raw/test", "--target", 1.5],
    "rounds": ["--exp", "exp/asr", *DATA, "--proxy", "dump/raw/test", "--target", 1.5],
    "compress": ["exp/asr", *DATA, "--target", "1.5x", "--no-retrain"],
}
SITE = "encoder.enc.0.bt0.weight"


@pytest.fixture
def refused(recipe, shrink):
    """Call a verb that must end with one line and write nothing; gives the line."""

    def call(verb: str, *more: object, out: object = "out") -> str:
        before = tree(recipe)
        ended = shrink(verb, *VERBS[verb], "--out", out, *more)
        assert ended.status == 2, ended
        (line,) = ended.err.splitlines()
        assert line.startswith(f"espnet-shrink {verb}: ")
        assert tree(recipe) == before
        return line

    return call


def spoil(name: str, value: float) -> None:
    path = Path("exp/asr/valid.acc.ave.pth")
    state = torch.load(path, weights_only=True)
    state[name].view(-1)[0] = value
    path.unlink()
    torch.save(state, path)


def reconfigure(**changes) -> None:
    path = Path("exp/asr/config.yaml")
    path.write_text(yaml.safe_dump({**read_yaml(path), **changes}), encoding="utf-8")


def test_weights_that_are_no_numbers_are_refused_by_name(refused):
    spoil(SITE, float("nan"))
    for verb in VERBS:
        assert f"{SITE} holds values that are not finite" in refused(verb)
    spoil(SITE, 0.0)
    spoil("decoder.output.bias", float("inf"))  # no site, but nothing comes of it either
    assert "decoder.output.bias holds values" in refused("search")


def bad_bpe_model():
    Path("data/bpe.model").write_bytes(b"no model")
    reconfigure(token_type="bpe", bpemodel="data/bpe.model")
    return "could not parse ModelProto from data/bpe.model"


def no_such_normalisation():
    Path("data/stats.npz").write_bytes(b"no statistics")
    reconfigure(normalize="global_mvn", normalize_conf={"stats_file": "data/stats.npz"})
    return "exp/asr/config.yaml"


def more_memory_than_there_is():
    conf = read_yaml("exp/asr/config.yaml")["encoder_conf"]
    reconfigure(encoder_conf={**conf, "hidden_size": 10**8})
    return "not enough memory"


@pytest.mark.parametrize(
    "spoiled", [bad_bpe_model, no_such_normalisation, more_memory_than_there_is]
)
def test_what_a_library_says_of_a_model_is_one_line_that_names_its_file(refused, spoiled):
    said = spoiled()
    line = refused("search")
    assert said in line and "perhaps a defect" not in line


def test_a_model_that_fails_while_it_runs_names_the_utterance(refused, monkeypatch):
    from espnet2.asr.decoder.rnn_decoder import RNNDecoder

    def fails(*arguments, **settings):
        raise IndexError("index 7 is out of range\nmore")

    for name in ("forward", "init_state"):
        monkeypatch.setattr(RNNDecoder, name, fails)
    line = refused("search")
    assert re.search(r"exp/asr/config.yaml: passing \S+-\d+ and its text through the model: ", line)
    assert line.endswith("IndexError: index 7 is out of range")


def test_a_path_that_the_system_refuses_is_one_line(refused):
    assert "File name too long" in refused("search", out="x" * 300)


def test_debug_shows_the_traceback_of_every_verb(recipe, shrink, monkeypatch):
    spoil(SITE, float("nan"))
    for verb, options in VERBS.items():
        ended = shrink(verb, *options, "--out", "out", "--debug")
        assert ended.status == 2 and "Traceback" in ended.err
        assert ended.err.splitlines()[-1].startswith(f"espnet-shrink {verb}: {SITE}")
    for verb in cli.parser()._subparsers._group_actions[0].choices.values():
        assert "--debug" in verb.format_help()


def test_a_defect_is_one_line_too(recipe, shrink, monkeypatch):
    from espnet_shrink.pipeline import space

    def fails(*arguments):
        raise ZeroDivisionError("division by zero\nsecond line")

    monkeypatch.setattr(space, "make_space", fails)
    ended = shrink("space", "--exp", "exp/asr", "--out", "out")
    assert (ended.status, ended.err) == (
        2, "espnet-shrink space: ZeroDivisionError: division by zero (perhaps a defect; run again "
        "with --debug for the traceback)\n",
    )  # fmt: skip


def test_an_interrupt_says_nothing(recipe, shrink):
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    ended = shrink("proxy", *VERBS["proxy"], "--out", "out")
    timer.cancel()
    assert ended.status == 130 and "Traceback" not in ended.err


def test_a_reader_that_has_gone_is_no_error(recipe):
    process = subprocess.Popen(
        [sys.executable, "-m", "espnet_shrink.cli", "inspect", "exp/asr"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


SCRIPT = """
import sys
def inner():
    raise ValueError("no such thing\\nmore")
inner()
"""


def test_the_launcher_ends_in_one_line_too(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "espnet_shrink.run"]
    done = subprocess.run([*launch, script], capture_output=True, text=True)
    line = f"{script}: ValueError: no such thing (perhaps a defect; "
    assert done.returncode == 2 and done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1
    done = subprocess.run([*launch, "--debug", script], capture_output=True, text=True)
    assert done.returncode == 2 and "in inner" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(line)


class OutOfMemoryError(RuntimeError):
    """As torch's."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory (MemoryError): free some, or use less data"),
        (OutOfMemoryError("CUDA out of memory. Tried"), "not enough memory (CUDA out of memory. "),
        (torch.linalg.LinAlgError("linalg.svd: failed"), "LinAlgError: linalg.svd: failed"),
        (PermissionError(13, "Permission denied", "a/b"), "Permission denied: a/b"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (KeyError("speech"), "KeyError: 'speech'"),
        (ValueError("\n\n first \n second"), "ValueError: first"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_an_exception_in_one_line(error, line):
    assert first_line(error).startswith(line)
    with pytest.raises(ShrinkError) as caught, working_on("decomposing x"):
        raise error
    assert str(caught.value) == f"decomposing x: {first_line(error)}"
    assert "\n" not in str(caught.value)


def test_what_is_one_line_already_stays_as_it_is():
    with pytest.raises(ShrinkError, match="^give a rank$"), working_on("outer"):
        with working_on("inner"):
            raise ShrinkError("give a rank")
    with pytest.raises(KeyboardInterrupt), working_on("outer"):
        raise KeyboardInterrupt
