"""Parameters and multiply-accumulates of an ESPnet model, against counts made by hand."""

import copy
import dataclasses

import pytest
from conftest import CONFIG, TOKENS
from toy import random_plan

from espnet_shrink.core.weights import model_hash
from espnet_shrink.data.features import extract
from espnet_shrink.methods.lowrank.analysis import analyse, cost_model, observe
from espnet_shrink.methods.lowrank.build import factorise, fold
from espnet_shrink.methods.lowrank.decompositions import factors_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import DENSE, Plan, dense_plan


@pytest.fixture
def dev(baseline):
    return extract(baseline, "dump/raw/dev")


def macs_by_hand(dev) -> float:
    """Per second of audio, of the model in conftest.CONFIG."""
    mels = CONFIG["frontend_conf"]["n_mels"]
    H, D = (CONFIG["encoder_conf"][key] for key in ("hidden_size", "output_size"))
    Z, attention = CONFIG["decoder_conf"]["hidden_size"], CONFIG["decoder_conf"]["att_conf"]
    A, channels = attention["adim"], attention["aconv_chans"]
    width, vocabulary = 2 * attention["aconv_filts"] + 1, len(TOKENS)
    total = 0
    for feature, tokens in zip(dev.features, dev.tokens, strict=True):
        T = len(feature)
        half = (T + 1) // 2  # the first layer's output is subsampled by 2, then projected
        steps = len(tokens) + 1  # and the end symbol
        total += T * 2 * 4 * H * (mels + H) + half * 2 * H * D
        total += half * 2 * 4 * H * (D + H) + half * 2 * H * D
        total += half * D * vocabulary  # CTC head
        total += half * D * A  # attention: encoder side, once
        total += steps * Z * A  # decoder side, every step
        total += steps * half * (channels * width + channels * A + A)  # location, energy
        total += steps * (4 * Z * (Z + D) + 4 * Z * Z + Z * vocabulary)
    return total / dev.audio_s


def test_macs_and_parameters_of_the_uncompressed_model(baseline, dev):
    found = survey(baseline.model)
    cost = cost_model(baseline.model, found, observe(baseline, found, dev), dev).cost(
        dense_plan(found.sites)
    )
    assert cost.macs_per_audio_second == pytest.approx(macs_by_hand(dev), rel=1e-9)
    assert cost.params == sum(p.numel() for p in baseline.model.parameters())
    assert cost.size_mib == pytest.approx(cost.params * 4 / 1024**2)


def test_a_factorised_site_saves_its_share(baseline, dev):
    """The first LSTM's input matrix, (4H, mels) at rank 3: 3 (4H + mels) per frame."""
    site = "encoder.enc.0.birnn0.weight_ih_l0"
    prices = analyse(baseline, dev, "plain").cost_model
    dense = dense_plan(prices.sites)
    before, after = prices.cost(dense), prices.cost(Plan({**dense.ranks, site: 3}))
    out_size, in_size = 4 * CONFIG["encoder_conf"]["hidden_size"], CONFIG["frontend_conf"]["n_mels"]
    saved = out_size * in_size - 3 * (out_size + in_size)
    assert before.params - after.params == saved
    frames = sum(map(len, dev.features))
    assert before.macs_per_audio_second - after.macs_per_audio_second == pytest.approx(
        saved * frames / dev.audio_s
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_price_of_a_plan_is_that_of_the_really_factorised_model(baseline, dev, seed):
    """Parameters counted, and multiply-accumulates as watched in the folded model's place."""
    analysis = analyse(baseline, dev, "whitened")
    plan = random_plan(analysis.survey.sites, seed)
    model = copy.deepcopy(baseline.model)
    factorise(model, plan, factors_of(plan, analysis.decompositions))
    assert analysis.cost_model.cost(plan).params == sum(p.numel() for p in model.parameters())
    fold(model)
    folded = survey(model)
    again = cost_model(
        model, folded, observe(dataclasses.replace(baseline, model=model), folded, dev), dev
    )
    assert again.cost(plan) == analysis.cost_model.cost(plan)


def test_every_matrix_of_the_recogniser_is_a_site_or_named(baseline):
    found = survey(baseline.model)
    names = {site.name for site in found.sites} | {u.name for u in found.uncompressed}
    assert names == {name for name, _ in baseline.model.named_parameters()}
    left = [u.name for u in found.uncompressed if not u.reason.startswith("a vector")]
    assert left == [
        "decoder.embed.weight", "decoder.att_list.0.loc_conv.weight",
        "decoder.att_list.0.gvec.weight",
    ]  # fmt: skip
    assert DENSE not in {site.largest_useful_rank for site in found.sites}


def test_the_hash_tells_models_apart(baseline):
    first = model_hash(baseline.model)
    other = copy.deepcopy(baseline.model)
    assert model_hash(other) == first
    other.decoder.output.bias.data[0] += 1e-6
    assert model_hash(other) != first
