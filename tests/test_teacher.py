"""A teacher that rides along with a training: what it says, and what it leaves behind."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from architectures import make
from conftest import ENVIRONMENT, one_core
from toy import random_plan

from espnet_shrink.compat.hooks import adapter_config
from espnet_shrink.core.checkpoints import read_checkpoint
from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.settings import settings_from
from espnet_shrink.core.weights import model_hash
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.adapter import adapter_conf
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.pipeline.rounds import run_rounds
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.training.espnet2 import leave_untrained, retrain, retraining_config
from espnet_shrink.training.extras import read_extras, write_extras
from espnet_shrink.training.extras.distil import LOSSES, Distil, parts_of, teacher_extra
from espnet_shrink.training.extras.losses import output_mse, real_positions
from espnet_shrink.training.extras.teacher import Teacher
from espnet_shrink.training.request import TrainingRequest
from espnet_shrink.training.rounds_settings import RoundsSettings

RECOGNISER = Distil(token_kl=1.0, ctc_kl=1.0, encoder_mse=1.0)
TRANSDUCER = Distil(transducer_kl=1.0, encoder_mse=1.0)
TEACHES = {
    "rnn": RECOGNISER, "vgg_rnn": RECOGNISER, "conformer_interctc": RECOGNISER, "s2t": RECOGNISER,
    "transducer": TRANSDUCER, "asr_transducer": TRANSDUCER,
}  # fmt: skip
MASKS = {
    "specaug": "specaug",
    "specaug_conf": {"freq_mask_width_range": [4, 8], "time_mask_width_range": [10, 20]},
}


def batch(name="rnn"):
    """Three utterances of several lengths, as ESPnet's collate function gives them."""
    torch.manual_seed(5)
    lengths, text_lengths = torch.tensor([16000, 12000, 9000]), torch.tensor([4, 2, 1])
    text = torch.randint(3, 7, (3, 4))
    text[torch.arange(4) >= text_lengths[:, None]] = -1
    given = {"speech": 0.1 * torch.randn(3, 16000), "speech_lengths": lengths,
             "text": text, "text_lengths": text_lengths}  # fmt: skip
    if name == "s2t":
        for key in ("text_prev", "text_ctc"):
            given |= {key: text.clone(), f"{key}_lengths": text_lengths}
    return given


def teach(base, student, distil):
    """Let `base` teach `student`, which is then in training mode; its modules are left alone."""
    student.training = True  # dropout and batch normalisation would tell the two apart
    Teacher(base.config, base.checkpoint, distil).wrap(student)
    return student


@pytest.mark.parametrize("name", TEACHES)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name, tmp_path):
    base = make(name, tmp_path / "exp")
    student, given = base.copy().model, batch(name)
    student.training = True
    before, _, _ = student(**given)
    loss, stats, weight = teach(base, student, TEACHES[name])(**given)
    told = {key: value.item() for key, value in stats.items() if key.startswith("distil_")}
    assert told.keys() == {f"distil_{loss}" for loss in TEACHES[name].losses}
    assert all(abs(value) < 1e-3 for value in told.values()), told
    assert loss.item() == pytest.approx(before.item(), rel=1e-4) and weight.item() == 3


@pytest.mark.parametrize("name", ["rnn", "transducer"])
def test_nothing_of_the_teacher_is_in_the_student(name, tmp_path):
    base = make(name, tmp_path / "exp")
    plain, student = base.copy().model, base.copy().model
    state = torch.random.get_rng_state()
    teach(base, student, TEACHES[name])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert student.state_dict().keys() == plain.state_dict().keys()
    assert len(list(student.parameters())) == len(list(plain.parameters()))
    student.eval()
    found, stats, _ = student(**batch(name))
    wanted, plain_stats, _ = plain(**batch(name))
    assert torch.equal(found, wanted) and stats.keys() == plain_stats.keys()


def test_posteriors_are_held_against_the_teachers_own_without_padding(tmp_path):
    base, other = make("rnn", tmp_path / "exp"), make("rnn", tmp_path / "other", seed=1)
    given = batch()
    _, stats, _ = teach(base, other.model, dataclasses.replace(RECOGNISER, temperature=2.0))(
        **given
    )
    kl = mse = 0.0
    with torch.no_grad():
        encoded = [m.encode(given["speech"], given["speech_lengths"]) for m in
                   (other.model, base.model)]  # fmt: skip
        for i, n in enumerate(encoded[0][1]):
            mine, theirs = (e[0][i, :n] for e in encoded)
            mse += torch.nn.functional.mse_loss(mine, theirs).item() * n / 3
            logits = [m.ctc.ctc_lo(e) / 2.0 for m, e in
                      ((other.model, mine), (base.model, theirs))]  # fmt: skip
            kl += torch.distributions.kl_divergence(
                *(torch.distributions.Categorical(logits=x) for x in reversed(logits))
            ).sum().item() * 4.0 / 3  # fmt: skip
    assert stats["distil_ctc_kl"].item() == pytest.approx(kl, rel=1e-4)
    assert stats["distil_encoder_mse"].item() == pytest.approx(float(mse), rel=1e-4)


@pytest.mark.parametrize("hears", ["same", "clean"])
def test_the_teacher_hears_the_same_masks_or_none(hears, tmp_path):
    base, given = make("rnn", tmp_path / "exp", changes=MASKS), batch()
    student = teach(base, base.copy().model, Distil(encoder_mse=1.0, input=hears))
    heard = []
    student.encoder.register_forward_hook(lambda _, args, output: heard.append(output))
    _, stats, _ = student(**given)
    ((masked, lengths, _),) = heard
    with torch.no_grad():
        clean = base.model.encode(given["speech"], given["speech_lengths"])[0]
    from_clean = output_mse(masked, clean, real_positions(lengths, masked.shape[1])).item()
    assert from_clean > 1e-3  # there are masks
    expected = 0.0 if hears == "same" else from_clean
    assert stats["distil_encoder_mse"].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def factorised(base):
    """A copy of `base` with random ranks, and its plan."""
    small = base.copy()
    plan = random_plan(survey(small.model).sites, 3)
    found = decompose_sites(dict(small.model.named_parameters()), survey(small.model).sites, None)
    factorise(small.model, plan, factors_of(plan, found))
    return small, plan


def test_a_factorised_student_comes_nearer_to_its_teacher_than_by_labels_alone(tmp_path):
    base, given = make("rnn", tmp_path / "exp"), batch()
    left = {}
    for labels_alone in (True, False):
        student = factorised(base)[0].model
        if not labels_alone:
            teach(base, student, Distil(token_kl=1.0, ctc_kl=1.0, labels=0.0))
        student.training = True
        optimiser = torch.optim.Adam(student.parameters(), 0.01)
        for _ in range(30):
            optimiser.zero_grad()
            student(**given)[0].backward()
            optimiser.step()
        if labels_alone:
            teach(base, student, Distil(token_kl=1.0, ctc_kl=1.0))
        _, stats, _ = student(**given)
        left[labels_alone] = stats["distil_token_kl"].item() + stats["distil_ctc_kl"].item()
    assert left[False] < 0.5 * left[True], left


@pytest.mark.parametrize("given, message", [
    ({"token_lk": 1.0}, "rounds.yaml: distil: unknown setting token_lk: choose of token_kl, ctc"),
    ({"token_kl": "a"}, "rounds.yaml: distil: token_kl is 'a', but must be float"),
    ({"ctc_kl": -1.0}, "distil: ctc_kl is a weight: 0 or more, not -1"),
    ({"ctc_kl": 1.0, "temperature": 0.0}, "distil: temperature must be above 0"),
    ({"ctc_kl": 1.0, "input": "dirty"}, "input is 'dirty': choose of same, clean"),
    ({"labels": 0.0}, "labels is 0, but no loss of the teacher has a weight"),
])  # fmt: skip
def test_bad_keys_are_refused(given, message):
    with pytest.raises(ShrinkError, match=message):
        settings_from(RoundsSettings, {"distil": given}, "rounds.yaml")


def test_a_loss_whose_part_the_model_lacks_is_refused_by_name(tmp_path):
    lacks = {
        "rnn": {"transducer_kl": "joint network over a whole lattice"},
        "transducer": {"token_kl": "attention decoder", "ctc_kl": "CTC head"},
        "asr_transducer": {"token_kl": "attention decoder", "ctc_kl": "CTC head"},
    }
    for name, losses in lacks.items():
        base = make(name, tmp_path / name)
        assert teacher_extra(Distil(), base) == {}
        for loss in LOSSES:
            distil = Distil(**{loss: 1.0})
            if loss in losses:
                with pytest.raises(
                    ShrinkError, match=f"{loss} needs a model with an? .*{losses[loss]}"
                ):
                    teacher_extra(distil, base)
            else:
                assert "encoder" in parts_of(distil, base.model)


def test_what_cannot_have_a_teacher_says_so(tmp_path):
    base = make("st", tmp_path / "exp")
    with pytest.raises(ShrinkError, match="models of the task st have no teacher"):
        teacher_extra(RECOGNISER, base)
    request = TrainingRequest({}, {}, tmp_path, 1, 0.1, ngpu=2, extras={"teacher": {}})
    with pytest.raises(ShrinkError, match="--ngpu 2: a teacher rides along on one GPU"):
        retraining_config(request)
    write_extras(tmp_path, {"docent": {}})
    with pytest.raises(ShrinkError, match="unknown extra docent: choose of teacher"):
        read_extras(tmp_path / "extras.yaml")


TRAIN = """
import pickle, sys
from espnet_shrink.training.espnet2 import retrain
retrain(pickle.load(open("request.pkl", "rb")))
"""


def killed_after_an_epoch(exp):
    """Start the training that is asked for in request.pkl, and kill it."""
    process = subprocess.Popen([sys.executable, "-c", TRAIN], env=ENVIRONMENT,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    limit = time.monotonic() + 200
    while not (exp / "1epoch.pth").exists() and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_real_training_with_a_teacher_is_killed_and_resumes(baseline):
    base, exp, epochs = baseline, Path("new"), 3
    small, plan = factorised(base)
    changes = {**adapter_config(adapter_conf(plan, model_hash(base.model))), "num_workers": 1}
    request = TrainingRequest(
        read_yaml(base.config), small.model.state_dict(), exp, epochs, 0.005, changes=changes,
        extras=teacher_extra(RECOGNISER, base),
    )  # fmt: skip
    teacher = base.checkpoint.read_bytes()
    Path("request.pkl").write_bytes(pickle.dumps(request))
    with one_core():
        killed_after_an_epoch(exp)
        assert not (exp / ".trained").exists()
        retrain(request)
    log = (exp / "train.log").read_text()
    assert log.count("teaches 1 token_kl + 1 ctc_kl + 1 encoder_mse") == 2
    assert "The training was resumed using" in log
    for epoch in range(1, epochs + 1):
        (line,) = [x for x in log.splitlines() if f" {epoch}epoch results: [train]" in x]
        train, valid = line.split("[valid]")
        assert all(f"distil_{loss}=" in train for loss in RECOGNISER.losses)
        assert "distil" not in valid and "acc=" in valid
    checkpoint = torch.load(exp / "checkpoint.pth", weights_only=False)
    assert checkpoint["model"].keys() == request.state.keys()
    groups = checkpoint["optimizers"][0]["param_groups"]
    assert sum(len(g["params"]) for g in groups) == len(list(small.model.parameters()))
    assert read_checkpoint(exp / "valid.acc.ave.pth").keys() == request.state.keys()
    assert base.checkpoint.read_bytes() == teacher
    assert "teacher" not in yaml.safe_dump(read_yaml(exp / "config.yaml"))


@pytest.mark.parametrize("control", [True, False])
def test_every_round_has_the_teacher_and_the_control_if_it_shall(baseline, control):
    asked = {}

    def note(request):
        asked[request.exp.name] = request.extras
        leave_untrained(request.base_config, request.state, request.exp, request.changes)

    settings = RoundsSettings(
        target=1.5, wer_limit_absolute=1000.0, distil=Distil(token_kl=1.0, control=control)
    )
    dev, search = Path("dump/raw/dev"), SearchSettings(searcher="uniform", min_rank=1)
    run_rounds(baseline, dev, dev, Path("small"), settings, search, retrain=note)
    taught = teacher_extra(settings.distil, baseline)
    assert asked == {"round1": taught, "control": taught if control else {}}
    lacks = dataclasses.replace(settings, distil=Distil(transducer_kl=1.0))
    with pytest.raises(ShrinkError, match="transducer_kl needs a model with a joint network"):
        run_rounds(baseline, dev, dev, Path("other"), lacks, search, retrain=note)
    assert not Path("other").exists()
