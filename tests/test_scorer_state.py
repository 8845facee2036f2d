"""Nothing of one plan is left when the next is scored, nor when the model itself is."""

import pytest
import torch
from architectures import make
from test_proxy_decoders import data  # noqa: F401
from toy import random_plan

from espnet_shrink.data.features import extract
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank import replan
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.objectives import greedy
from espnet_shrink.objectives.score import Scorer


@pytest.mark.parametrize("name", ["rnn", "conformer_interctc", "transducer", "asr_transducer",
                                  "contextual_block_conformer", "whisper", "s2t"])  # fmt: skip
def test_the_model_is_scored_as_it_is_whatever_was_scored_before(name, data, tmp_path):  # noqa: F811
    # Of the first random Whisper no plan changes what it says.
    loaded = make(name, tmp_path / "exp", seed=1 if name == "whisper" else 0)
    features = extract(loaded, data)
    analysis = analyse(loaded, features, "whitened")
    as_it_is = Scorer(loaded, features)
    texts, score, errors = as_it_is.hypotheses(), as_it_is.score(), as_it_is.by_utterance()
    scorer = Scorer(loaded, features, analysis.decompositions)
    changed = False
    for seed in range(3):
        changed |= scorer.hypotheses(random_plan(analysis.survey.sites, seed)) != texts
        assert scorer.hypotheses() == texts
        scorer.score(random_plan(analysis.survey.sites, seed))
        assert scorer.score() == score
        scorer.by_utterance(random_plan(analysis.survey.sites, seed))
        assert (scorer.by_utterance() == errors).all()
    assert changed


def test_a_plan_that_fails_midway_leaves_nothing(baseline, monkeypatch):
    dev = extract(baseline, "dump/raw/dev")
    analysis = analyse(baseline, dev, "whitened")
    plans = [random_plan(analysis.survey.sites, seed) for seed in range(4)]
    scorer = Scorer(baseline, dev, analysis.decompositions)
    expected = [scorer.score(plan) for plan in (*plans, None)]
    low_rank_twin, encode_batch = replan.low_rank_twin, greedy.encode_batch
    calls = []

    def fails(function, times):
        def call(*arguments):
            calls.append(1)
            if len(calls) > times:
                raise MemoryError
            return function(*arguments)

        return call

    monkeypatch.setattr(greedy, "BATCH_FRAMES", 100)  # several batches
    for times in range(1, 9, 2):
        for module, function in ((replan, low_rank_twin), (greedy, encode_batch)):
            calls.clear()
            with monkeypatch.context() as patched, pytest.raises((MemoryError, ShrinkError)):
                patched.setattr(module, function.__name__, fails(function, times))
                scorer.score(plans[times // 2])
            # Last the model as it is: the next plan has all to change.
            for plan, score in ((plans[0], 0), (plans[3], 3), (None, 4)):
                assert scorer.score(plan) == expected[score]


def test_teaching_leaves_a_decoder_that_samples_at_random_as_it_was(data, tmp_path):  # noqa: F811
    loaded = make("rnn", tmp_path / "exp")
    features = extract(loaded, data)
    loaded.model.decoder.sampling_probability = 0.9
    first, again = (analyse(loaded, features, "whitened").decompositions for _ in range(2))
    assert loaded.model.decoder.sampling_probability == 0.9
    name = "decoder.output.weight"
    assert torch.equal(first[name].factors(3)[0], again[name].factors(3)[0])
