"""The examples and the defaults that --help shows are true."""

import argparse
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import ROUNDS, SEARCH, tree, write_hypotheses
from test_whisper import checkpoint

from espnet_shrink.cli import parser
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data import PROXY_SIZE
from espnet_shrink.pipeline.rounds import RoundsSettings
from espnet_shrink.presets import presets
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.version import __version__

# In the order in which one needs what another leaves.
ORDER = ["settings", "inspect", "apply", "proxy", "space", "search", "rounds", "report", "export",
         "pack", "compress", "unpack", "recipe", "whisper"]  # fmt: skip


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Verb -> its parser."""
    (actions,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(actions.choices)


def examples(verb: str) -> list[list[str]]:
    """The words of every example in the help of a verb."""
    lines = (verbs()[verb].epilog or "").splitlines()
    found = [shlex.split(line) for line in lines if line.startswith("  espnet-shrink")]
    assert found and all(words[:2] == ["espnet-shrink", verb] for words in found)
    return [words[1:] for words in found]


@pytest.mark.slow
def test_every_example_of_help_runs_as_it_stands(recipe, shrink, monkeypatch):
    """Only the presets are made quick: where a verb takes them, the edited copies are given."""
    assert sorted(ORDER) == sorted(verbs())
    monkeypatch.setenv("HOME", str(recipe / "home"))
    template = recipe / "home/espnet/egs2/TEMPLATE/asr1"
    template.mkdir(parents=True)
    checkpoint(recipe / "tiny.en.pt")
    checkpoint(recipe / "base.pt", n_vocab=51865)
    (template / "asr.sh").touch()
    inspected = ["encoder.enc.0.birnn0.weight_ih_l0", "ctc.ctc_lo.weight"]
    Path("plan.yaml").write_text(yaml.safe_dump({"ranks": dict.fromkeys(inspected, 2)}))
    for verb in ORDER:
        for words in examples(verb):
            if verb == "report":
                write_hypotheses(recipe)
            words = [str(Path(word).expanduser()) if word[:1] == "~" else word for word in words]
            for name in ("search", "rounds"):
                if f"--{name}_config" in verbs()[verb]._option_string_actions and verb != "search":
                    words += [f"--{name}_config", f"conf/{name}.yaml"]
            ended = shrink(*words)
            assert ended.status == 0, (words, ended.err)
        if verb == "settings":
            quick = {**read_yaml("conf/rounds.yaml"), **ROUNDS, "target": 5.0, "step": 2.3}
            Path("conf/rounds.yaml").write_text(yaml.safe_dump({**quick, "control": False}))
            Path("conf/search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 12}))
    assert read_yaml("small/rounds.yaml")["reached_target"]
    assert len(list(Path("asr_5x").glob("*_5.*x.zip"))) == 1


def test_help_says_the_defaults_that_hold(shrink):
    search, rounds = SearchSettings(), RoundsSettings()
    for verb, *said in [
        ("compress", f"rounds preset ({rounds.target:g}x)", f"search preset ({search.seed})"),
        ("rounds", f"rounds preset ({rounds.target:g}x)", f"search preset ({search.seed})"),
        ("search", f"({search.searcher})", f"({search.reward})", f"({search.evaluations})"),
        ("proxy", f"by default {PROXY_SIZE}", "(default: ordered)", "(default: 0)"),
    ]:
        text = " ".join(shrink(verb, "--help").out.split())
        assert all(words in text for words in said), (verb, said)
    for verb in verbs():
        assert "default: None" not in shrink(verb, "--help").out


@pytest.mark.parametrize("target", ["1.5x", "1.5", "1.5X"])
@pytest.mark.parametrize("verb", ["compress", "search", "rounds"])
def test_a_target_is_written_alike_everywhere(verb, target):
    option = verbs()[verb]._option_string_actions["--target"]
    several = verb == "compress"
    assert option.type(target) == ((1.5,) if several else 1.5)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["search", "--target", "five"], "'five' is no compression: give 5x or 5"),
        (["rounds", "--target", "x"], "'x' is no compression: give 5x or 5"),
        (["compress", "exp/asr"], "required: --data, --out"),
        (["rounds", "--config", "rounds.yaml"], "required: --exp"),
        (["squash"], "invalid choice: 'squash'"),
        ([], "required: VERB"),
        (["compress", "exp/asr", "--data", "d", "--out", "o", "--conf", "c"], "--conf c"),
    ],
)
def test_a_wrong_command_line_is_one_line(shrink, words, named):
    ended = shrink(*words)
    assert ended.status == 2 and ended.out == ""
    assert len(ended.err.splitlines()) == 1 and named in ended.err


def test_version_and_presets_are_told(shrink):
    assert shrink("--version").out.split() == ["espnet-shrink", __version__]
    said = shrink("settings").out
    assert all(name in said and str(path) in said for name, path in presets().items())


def test_presets_are_copied_once(tmp_path, shrink):
    out = tmp_path / "new" / "conf"
    assert shrink("settings", "--out", out).status == 0
    for name, path in presets().items():
        assert (out / f"{name}.yaml").read_bytes() == path.read_bytes()
        assert not (out / f"{name}.yaml").is_symlink()
    before = tree(out)
    again = shrink("settings", "--out", out)
    assert again.status == 2 and "is there already and is left as it is" in again.err
    assert tree(out) == before
    assert shrink("settings", "--out", out / "search.yaml").status == 2
