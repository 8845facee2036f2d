"""The proxy gives features, hypotheses and scores as ESPnet and factorised models do."""

import copy
import dataclasses
import itertools

import jiwer
import pytest
import soundfile
import torch
from conftest import SETS
from toy import random_plan

from espnet_shrink.compat.encoder import encode
from espnet_shrink.data.features import extract
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import factors_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives import greedy
from espnet_shrink.objectives.score import Scorer, errors
from espnet_shrink.plan import Plan, dense_plan


@pytest.fixture
def dev(baseline):
    return extract(baseline, "dump/raw/dev")


def as_trained(model):
    pass


def never_ending(model):
    """Hypotheses run into their length limit."""
    model.decoder.output.bias[model.eos] -= 20.0


def contrary(model):
    """The attention decoder likes best what it liked least, and CTC has no blanks."""
    model.decoder.output.weight.mul_(-1.5)
    model.decoder.output.bias[model.eos] -= 20.0  # which it may have liked least
    model.ctc.ctc_lo.bias[model.blank_id] -= 20.0


def speech2text(loaded, folder, **settings):
    """ESPnet's own inference with the weights that `loaded` has now."""
    from espnet2.bin.asr_inference import Speech2Text

    path = folder / "now.pth"
    torch.save(loaded.model.state_dict(), path)
    return Speech2Text(str(loaded.config), str(path), **settings)


@pytest.mark.parametrize("change", [as_trained, never_ending, contrary])
def test_hypotheses_are_those_of_espnet(baseline, dev, recipe, change):
    with torch.no_grad():
        change(baseline.model)
    decode = speech2text(baseline, recipe, beam_size=1, ctc_weight=0.0)
    attention, ctc = [], []
    for utterance in dev.utterances:
        samples = soundfile.read(utterance.audio, dtype="float32")[0]
        attention.append(decode(samples)[0][0])
        encoded, _ = decode.asr_model.encode(
            torch.from_numpy(samples)[None], torch.tensor([len(samples)])
        )
        path = decode.asr_model.ctc.argmax(encoded)[0].tolist()
        tokens = decode.converter.ids2tokens([t for t, _ in itertools.groupby(path) if t != 0])
        ctc.append(decode.tokenizer.tokens2text(tokens))
    assert len(set(attention)) > 2 and len(set(ctc)) > 2  # degenerate models prove nothing
    assert Scorer(baseline, dev).hypotheses() == {"ctc": ctc, "attention": attention}


def test_batches_change_no_hypothesis(baseline, dev, monkeypatch):
    together = Scorer(baseline, dev).hypotheses()
    for i, utterance in enumerate(dev.utterances):
        alone = Scorer(baseline, dev.subset({utterance.name})).hypotheses()
        assert alone == {name: [texts[i]] for name, texts in together.items()}
    monkeypatch.setattr(greedy, "BATCH_FRAMES", 200)
    assert 3 <= len(greedy.batches(dev.features)) < len(dev.features)
    assert Scorer(baseline, dev).hypotheses() == together


def test_a_plan_is_scored_as_the_factorised_model_whatever_was_scored_before(baseline, dev):
    analysis = analyse(baseline, dev, "whitened")
    sites = survey(baseline.model).sites
    plans = [dense_plan(sites), *(random_plan(sites, seed) for seed in range(5))]
    expected = []
    for plan in plans:
        factored = copy.deepcopy(baseline.model)
        factorise(factored, plan, factors_of(plan, analysis.decompositions))
        own = Scorer(dataclasses.replace(baseline, model=factored), dev)
        expected.append((own.hypotheses(), own.score()))
    assert len({score.errors for _, score in expected}) > 3
    before = copy.deepcopy(baseline.model.state_dict())
    scorer = Scorer(baseline, dev, analysis.decompositions)
    for i in (0, 3, 1, 5, 2, 0, 4, 3, 0):
        assert (scorer.hypotheses(plans[i]), scorer.score(plans[i])) == expected[i]
    after = baseline.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_encoder_runs_again_only_for_a_plan_that_changes_it(baseline, dev, monkeypatch):
    analysis = analyse(baseline, dev, "whitened")
    scorer = Scorer(baseline, dev, analysis.decompositions)
    runs, encode_batch = [], greedy.encode_batch
    monkeypatch.setattr(greedy, "encode_batch", lambda *a: runs.append(1) or encode_batch(*a))
    ranks = {site.name: 2 for site in analysis.survey.sites}
    (batch,) = greedy.batches(dev.features)
    behind = next(name for name in ranks if name.startswith("decoder."))
    inside = next(name for name in ranks if name.startswith("encoder."))
    for change, times in [({}, 1), ({behind: 3}, 1), ({"ctc.ctc_lo.weight": 3}, 1), ({}, 1),
                          ({inside: 3}, 2), ({}, 3)]:  # fmt: skip
        plan = Plan({**ranks, **change})
        again = scorer.hypotheses(plan)
        assert len(runs) == times
        fresh = Scorer(baseline, dev, analysis.decompositions)
        assert again == fresh.hypotheses(plan)
        runs[times:] = []


def test_a_score_is_the_mean_of_both_decoders_errors_by_jiwer(baseline, dev):
    scorer = Scorer(baseline, dev)
    texts = scorer.hypotheses()
    found = scorer.score()
    for kind, value in (("wer", found.wer), ("cer", found.cer)):
        rates = [getattr(jiwer, kind)(dev.references, hyps) for hyps in texts.values()]
        assert value == pytest.approx(100 * sum(rates) / 2)
    assert found.errors == pytest.approx((found.wer + 3 * found.cer) / 4)
    assert errors(["a b c d"], ["a b d e"]).wer == pytest.approx(50.0)


def test_dropout_that_espnet_leaves_on_in_eval_mode_does_not_touch_scores(baseline, dev):
    expected = Scorer(baseline, dev).hypotheses()
    (rnnp,) = [m for m in baseline.model.modules() if type(m).__name__ == "RNNP"]
    rnnp.dropout = 0.5
    feature = dev.features[0][None]
    length = torch.tensor([feature.shape[1]])
    one, two = (encode(baseline.model, feature, length)[0] for _ in range(2))
    assert not torch.equal(one, two)  # ESPnet alone is random here
    assert Scorer(baseline, dev).hypotheses() == expected
    assert rnnp.dropout == 0.5


def test_features_are_what_espnets_encoder_is_given(baseline, dev):
    assert len(dev.features) == SETS["dev"]
    seconds = 0.0
    preprocess = speech_preprocessor(baseline)
    for utterance, feature, tokens in zip(dev.utterances, dev.features, dev.tokens, strict=True):
        samples = soundfile.read(utterance.audio, dtype="float32")[0]
        seconds += len(samples) / 16000
        with torch.no_grad():
            expected, _ = baseline.model.encode(
                torch.from_numpy(samples)[None], torch.tensor([len(samples)])
            )
            found, _ = encode(baseline.model, feature[None], torch.tensor([len(feature)]))
        assert torch.equal(found, expected)
        assert list(tokens) == preprocess("", {"text": utterance.text})["text"].tolist()
    assert dev.audio_s == pytest.approx(seconds)


def speech_preprocessor(loaded):
    from espnet2.tasks.asr import ASRTask

    return ASRTask.build_preprocess_fn(loaded.args, False)


def test_a_subset_keeps_the_features_and_the_seconds_of_its_own_utterances(dev):
    names = {dev.utterances[2].name, dev.utterances[7].name}
    few = dev.subset(names)
    assert {u.name for u in few.utterances} == names
    assert [len(f) for f in few.features] == [len(dev.features[i]) for i in (2, 7)]
    seconds = sum(soundfile.info(u.audio).duration for u in few.utterances)
    assert few.audio_s == pytest.approx(seconds)


def test_a_model_without_anything_to_decode_is_refused(baseline, dev):
    baseline.model.ctc_weight = 0.0
    baseline.model.decoder = torch.nn.Linear(2, 2)
    with pytest.raises(ShrinkError, match="nothing in this model can be decoded"):
        Scorer(baseline, dev)
