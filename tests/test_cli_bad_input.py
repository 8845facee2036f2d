"""Bad input of every verb: one line that says what is wrong, exit status 2, nothing written."""

import fcntl
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import tree
from test_espnet_checkpoints import Touch

from espnet_shrink.core.files import read_yaml
from espnet_shrink.plan import Plan

EXP = Path("exp/asr")
DEV = Path("dump/raw/dev")

# Any data folder can be a proxy set: the test set stands for one that is in order.
VERBS = {
    "proxy": ["--data", "dump/raw/dev", "--size", 4],
    "space": [],
    "search": ["--proxy", "dump/raw/test", "--data", "dump/raw/dev", "--target", 1.5,
               "--searcher", "random", "--evaluations", 4],
    "rounds": ["--proxy", "dump/raw/test", "--data", "dump/raw/dev", "--target", 1.5],
}  # fmt: skip
every_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture
def refused(recipe, shrink):
    """Call a verb that must refuse its input; gives its one line."""

    def call(verb: str, *more: object, exp: object = EXP, out: object = "out") -> str:
        before, folders = tree(recipe), {p for p in recipe.rglob("*") if p.is_dir()}
        ended = shrink(verb, "--exp", exp, "--out", out, *VERBS.get(verb, []), *more)
        assert ended.status == 2, ended
        lines = ended.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith(f"espnet-shrink {verb}: "), ended.err
        assert tree(recipe) == before
        assert {p for p in recipe.rglob("*") if p.is_dir()} == folders
        return lines[0]

    return call


# --- the model ---


def no_folder():
    shutil.rmtree(EXP)
    return "no such experiment folder: exp/asr"


def no_config():
    (EXP / "config.yaml").unlink()
    return "exp/asr has no config.yaml"


def no_checkpoint():
    for path in EXP.glob("*.pth"):
        path.unlink()
    return "exp/asr has no checkpoint"


def replaced(content: bytes) -> None:
    (EXP / "valid.acc.ave.pth").unlink()
    (EXP / "valid.acc.ave.pth").write_bytes(content)


def truncated():
    replaced((EXP / "valid.acc.ave.pth").read_bytes()[:5000])
    return "valid.acc.ave.pth is truncated"


def pickled():
    replaced(b"")
    torch.save({"weight": Touch(Path("executed"))}, EXP / "valid.acc.ave.pth")
    return "valid.acc.ave.pth holds pickled objects"


def of_another_model():
    state = torch.load(EXP / "valid.acc.ave.pth", weights_only=True)
    replaced(b"")
    state["encoder.enc.0.bt0.weight"] = torch.zeros(3, 32)
    torch.save(state, EXP / "valid.acc.ave.pth")
    return "does not fit exp/asr/config.yaml"


def damaged_config():
    (EXP / "config.yaml").write_text("encoder: [rnn\n")
    return "config.yaml is not valid YAML"


MODELS = [no_folder, no_config, no_checkpoint, truncated, pickled, of_another_model, damaged_config]


@every_verb
@pytest.mark.parametrize("spoil", MODELS)
def test_a_bad_model_is_refused(refused, verb, spoil):
    line = spoil()
    assert line in refused(verb)
    assert not Path("executed").exists()


@every_verb
def test_a_named_checkpoint_that_is_not_there_is_refused(refused, verb):
    assert "exp/asr has no 99epoch.pth" in refused(verb, "--checkpoint", "99epoch.pth")


@every_verb
def test_a_compressed_model_is_no_baseline(refused, small, verb):
    assert "exp/small is compressed already" in refused(verb, exp="exp/small")


# --- data ---


def rewrite(name: str, change) -> None:
    lines = (DEV / name).read_text().splitlines()
    (DEV / name).write_text("".join(line + "\n" for line in change(lines)))


def no_data():
    shutil.rmtree(DEV)
    return "no such data folder: dump/raw/dev"


def no_text_file():
    (DEV / "text").unlink()
    return "no such file: dump/raw/dev/text"


def no_audio():
    Path("wav/dev1-04.wav").unlink()
    return "audio of dev1-04 is missing: wav/dev1-04.wav"


def no_text():
    rewrite("text", lambda lines: ["dev0-00", *lines[1:]])
    return "dev0-00 has no text"


def wrong_rate():
    samples, _ = soundfile.read("wav/dev1-04.wav")
    soundfile.write("wav/dev1-04.wav", samples, 8000)
    return "wav/dev1-04.wav of dev1-04 is sampled at 8000 Hz, the model wants 16000 Hz"


def two_channels():
    soundfile.write("wav/dev1-04.wav", np.zeros((9000, 2)), 16000)
    return "wav/dev1-04.wav of dev1-04 has several channels"


def no_sound_file():
    Path("wav/dev1-04.wav").write_bytes(b"RIFF, but not really")
    return "cannot read wav/dev1-04.wav of dev1-04"


def only_in_wav_scp():
    rewrite("text", lambda lines: lines[:-1])
    return "dev2-11 is in wav.scp but not in text"


def only_in_text():
    rewrite("wav.scp", lambda lines: lines[1:])
    return "dev0-00 is in text but not in wav.scp"


DATA = [no_data, no_text_file, no_audio, no_text, wrong_rate, two_channels, no_sound_file,
        only_in_wav_scp, only_in_text]  # fmt: skip
READERS = {
    "proxy --data": ["proxy"],
    "search --proxy": ["search", "--proxy", DEV, "--data", "dump/raw/test"],
    "search --data": ["search"],
    "rounds --proxy": ["rounds", "--proxy", DEV, "--data", "dump/raw/test"],
    "rounds --data": ["rounds"],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("spoil", DATA)
def test_bad_data_is_refused(refused, reader, spoil):
    line = spoil()
    assert line in refused(*READERS[reader])


@pytest.mark.parametrize(
    ("size", "named"),
    [(13, "13 utterances cannot be drawn from 12"), (0, "give --size 1 to 12"), (-2, "1 to 12")],
)
def test_a_proxy_set_larger_than_dev_or_empty_is_refused(refused, size, named):
    assert named in refused("proxy", "--size", size)


# --- options and presets ---


@pytest.mark.parametrize(
    ("verb", "options", "named"),
    [
        ("proxy", ["--method", "best"], "unknown proxy method best: choose of random, stratified"),
        ("proxy", ["--seed", -1], "seed -1 is negative"),
        ("search", ["--searcher", "magic"], "unknown searcher magic: choose of reinforce, "),
        ("search", ["--reward", "candy"], "unknown reward candy: choose of "),
        ("search", ["--evaluations", 0], "evaluations must be at least 1"),
        ("search", ["--seed", -1], "seed must be from 0"),
        ("search", ["--target", 0.9], "must be at least 1, not 0.9"),
        ("search", ["--target", -3], "must be at least 1, not -3"),
        ("search", ["--target", "nan"], "must be at least 1, not nan"),
        ("search", ["--target", 1000], "cannot be met"),
        ("search", ["--target", "inf"], "cannot be met"),
        ("search", ["--space", "no.yaml"], "no such file: no.yaml"),
        ("rounds", ["--target", 1], "must be above 1, not 1"),
        ("rounds", ["--target", 0.5], "must be above 1, not 0.5"),
        ("rounds", ["--target", "nan"], "must be above 1, not nan"),
        ("rounds", ["--target", "inf"], "must be above 1, not inf"),
        ("rounds", ["--target", 1000], "cannot be met"),
        ("rounds", ["--plan", "no.yaml"], "no such file: no.yaml"),
        ("rounds", ["--seed", -1], "seed must be from 0"),
    ],
)
def test_a_bad_option_is_refused(refused, verb, options, named):
    assert named in refused(verb, *options)


PRESETS = [("space", "--search_config", "seed"), ("search", "--search_config", "seed"),
           ("search", "--rounds_config", "epochs"), ("rounds", "--rounds_config", "epochs"),
           ("rounds", "--search_config", "seed")]  # fmt: skip


@pytest.mark.parametrize(("verb", "option", "key"), PRESETS)
def test_a_bad_preset_is_refused(refused, verb, option, key):
    preset = Path("preset.yaml")
    assert "no such file: preset.yaml" in refused(verb, option, preset)
    for content, named in [
        ("colour: red\n", "unknown setting colour"),
        ("- epochs\n", "is empty or no mapping"),
        ("target: [\n", "preset.yaml is not valid YAML"),
        (f"{key}: many\n", f"{key} is 'many', but must be int"),
    ]:
        preset.write_text(content)
        assert named in refused(verb, option, preset)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"step": 1.0}, "step must be above 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"final_epochs": 0}, "final_epochs must be at least 1"),
        ({"wer_limit_absolute": -1}, "WER limits must not be negative"),
        ({"rollbacks": -1}, "rollbacks must not be negative"),
        ({"learning_rate_factor": 0}, "learning_rate_factor must be above 0"),
    ],
)
def test_a_rounds_preset_out_of_range_is_refused(refused, settings, named):
    Path("preset.yaml").write_text(yaml.safe_dump(settings))
    assert named in refused("rounds", "--rounds_config", "preset.yaml")


# --- plans and spaces edited by hand ---


@pytest.fixture
def space(recipe, shrink):
    """made/space.yaml, as a mapping."""
    assert shrink("space", "--exp", EXP, "--out", "made").status == 0
    return read_yaml("made/space.yaml")


SITE = "encoder.enc.0.birnn0.weight_ih_l0"


@pytest.mark.parametrize(
    ("ranks", "named"),
    [
        ([2, 10_000], f"rank 10000 in the range of {SITE} is out of range"),
        ([0, 4], "rank 0 in the range"),
        ([2.5, 4], "rank 2.5 in the range"),
        (["dens", 4], "rank 'dens' in the range"),
        ([4, 2], "must be two ranks"),
        ([2, 3, 4], "must be two ranks"),
        ([], "must be two ranks"),
        (None, "is no search space"),
    ],
)
def test_an_edited_space_out_of_range_is_refused(refused, space, ranks, named):
    space["sites"][SITE]["ranks"] = ranks
    Path("made/space.yaml").write_text(yaml.safe_dump(space))
    assert named in refused("search", "--space", "made/space.yaml")
    assert named in refused("space", out="made")


def test_a_space_of_another_model_is_refused(refused, space):
    space["sites"]["encoder.other.weight"] = space["sites"].pop(SITE)
    Path("made/space.yaml").write_text(yaml.safe_dump(space))
    assert "make the space anew" in refused("search", "--space", "made/space.yaml")


@pytest.fixture
def plan(recipe, shrink):
    """made/plan.yaml for --target 1.5, as a mapping."""
    ended = shrink("search", "--exp", EXP, "--out", "made", *VERBS["search"],
                   "--searcher", "uniform")  # fmt: skip
    assert ended.status == 0, ended
    return read_yaml("made/plan.yaml")


@pytest.mark.parametrize("rank", [0, -3, 10_000, 1.5, "dens", None])
def test_an_edited_plan_out_of_range_is_refused(refused, plan, rank):
    plan["ranks"][SITE] = rank
    Path("made/plan.yaml").write_text(yaml.safe_dump(plan))
    assert f"rank {rank!r} of {SITE} is out of range" in refused(
        "rounds", "--plan", "made/plan.yaml"
    )


def test_a_plan_of_another_model_is_refused(refused, plan):
    path = Path("made/plan.yaml")
    for change, named in [
        ({"base_hash": "0" * 64}, "searched for another model"),
        ({"ranks": {**plan["ranks"], "other.weight": 3}}, "other.weight, which is no site"),
        ({"ranks": {SITE: 3}}, "gives no rank for"),
        ({"ranks": []}, "holds no plan"),
    ]:
        path.write_text(yaml.safe_dump({**plan, **change}))
        assert named in refused("rounds", "--plan", path)
    Plan(plan["ranks"]).save(path)
    assert "make it with espnet-shrink search" in refused("rounds", "--plan", path)


def test_a_plan_that_keeps_too_much_for_the_first_round_is_refused(refused, plan):
    plan["ranks"] = dict.fromkeys(plan["ranks"], "dense")
    Path("made/plan.yaml").write_text(yaml.safe_dump(plan))
    assert "the first round aims at 1.50x" in refused("rounds", "--plan", "made/plan.yaml")


# --- the output folder ---


@pytest.mark.parametrize("verb", ["proxy", "search", "rounds"])
def test_a_folder_in_use_is_refused(refused, verb):
    Path("out").mkdir()
    with Path("out/.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # flock tells open files apart, not processes
        assert "out is in use by another run" in refused(verb)


@pytest.mark.parametrize(
    ("verb", "changed", "named"),
    [
        ("proxy", ["--size", 5], "size was 4, now 5"),
        ("proxy", ["--seed", 1], "seed was 0, now 1"),
        ("search", ["--target", 1.6], "budget_params was"),
        ("search", ["--seed", 1], "seed was 0, now 1"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(refused, shrink, verb, changed, named):
    assert shrink(verb, "--exp", EXP, "--out", "out", *VERBS[verb]).status == 0
    line = refused(verb, *changed)
    assert named in line and "choose another folder" in line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("verb", "file"),
    [("proxy", "settings.yaml"), ("proxy", "wav.scp"), ("proxy", "proxy.yaml"),
     ("space", "space.yaml"), ("search", "log.csv"),
     ("search", "finalists.csv"), ("search", "plan.yaml"), ("rounds", "settings.yaml"),
     ("rounds", "round1/before_retraining.yaml"), ("rounds", "round1/init.pth"),
     ("rounds", "round1/train.yaml")],
)  # fmt: skip
def test_a_full_disk_is_one_line_and_leaves_no_half_file(shrink, recipe, verb, file):
    target = Path("out") / file
    target.parent.mkdir(parents=True)
    # What write_atomically writes to before it renames: the kernel answers with ENOSPC.
    beside = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    beside.symlink_to("/dev/full")
    Path("search.yaml").write_text("searcher: uniform\n")
    fast = ["--search_config", "search.yaml"] if verb == "rounds" else []
    ended = shrink(verb, "--exp", EXP, "--out", "out", *VERBS[verb], *fast)
    assert ended.status == 2
    errors = [line for line in ended.err.splitlines() if line.startswith("espnet-shrink ")]
    assert errors == ended.err.splitlines()[-1:]
    assert f"espnet-shrink {verb}: no space left" in errors[0] and str(target) in errors[0]
    assert not target.exists() and not beside.is_symlink()
    if verb == "rounds":
        return
    ended = shrink(verb, "--exp", EXP, "--out", "out", *VERBS[verb])  # with space again
    assert ended.status == 0 and target.exists()


# --- report ---


def test_a_report_without_rounds_is_refused(refused):
    line = refused("report", "--data_root", "dump/raw", "--test_sets", "test",
                   "--inference_tag", "decode")  # fmt: skip
    assert "no such file: out/rounds.yaml: run the rounds first" in line


# --- the command line itself ---


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["shrinkify"],
        ["space"],
        ["space", "--exp", "exp/asr"],
        ["space", "--exp", "exp/asr", "--out", "out", "--colour", "red"],
        ["search", "--exp", "exp/asr", "--out", "out", "--proxy", "p", "--target", "much"],
        ["proxy", "--exp", "exp/asr", "--out", "out", "--data", "dump/raw/dev", "--size", "1.5"],
    ],
)
def test_wrong_usage_is_exit_status_2(recipe, shrink, arguments):
    before = tree(recipe)
    ended = shrink(*arguments)
    assert ended.status == 2
    assert ended.err.startswith("espnet-shrink") and ended.err.endswith("--help)\n")
    assert len(ended.err.splitlines()) == 1
    assert tree(recipe) == before
