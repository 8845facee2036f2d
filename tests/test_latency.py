"""Predicted times: real ones of matrices, by rank and by rows, and of models as they decode."""

import pytest
import torch
from architectures import make
from toy import random_plan

from espnet_shrink.compat.decoders import decoders_of
from espnet_shrink.compat.encoder import encode
from espnet_shrink.compat.text import Prompt
from espnet_shrink.data.features import FeatureSet, extract
from espnet_shrink.methods.lowrank import latency as module
from espnet_shrink.methods.lowrank.analysis import (
    analyse,
    cost_model,
    decode_alone,
    latency,
    observe,
)
from espnet_shrink.methods.lowrank.latency import MOST_FRAMES, MOST_ROWS, LatencyTable
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.methods.lowrank.timing import least_seconds, one_thread
from espnet_shrink.plan import DENSE, Plan, dense_plan

WIDE = Site("wide", (384, 256), "linear")
RECURRENT = Site("recurrent", (64, 16), "lstm_recurrent")


@pytest.fixture
def table(tmp_path):
    return LatencyTable(tmp_path)


@pytest.mark.parametrize(
    ("kind", "shape", "rows"),
    [("linear", (96, 64), 40), ("cell_recurrent", (256, 64), 1), ("cell_input", (256, 80), 1),
     ("lstm_recurrent", (256, 64), 20), ("lstm_input", (256, 64), 20),
     ("gru_recurrent", (192, 64), 20), ("gru_cell_input", (192, 64), 1),
     ("pointwise_conv", (96, 64), 7)],
)  # fmt: skip
def test_time_rises_with_the_rank_and_none_is_faster_than_light(table, kind, shape, rows):
    site = Site("site", shape, kind)
    curve = table.curve(site, {rows: 1.0})
    seconds = [curve.seconds(rank) for rank in range(1, site.largest_useful_rank + 1)]
    assert seconds == sorted(seconds) and 1e-8 < seconds[0] and seconds[-1] < 1.0
    assert 1e-8 < curve.seconds(DENSE) < 1.0


def test_a_large_matrix_is_faster_at_a_low_rank_and_a_tiny_one_never(table):
    curve = table.curve(WIDE, {64: 1.0})
    assert curve.seconds(8) < curve.seconds(DENSE) / 2
    assert 8 < curve.break_even(WIDE) <= WIDE.largest_useful_rank
    tiny = Site("tiny", (12, 12), "linear")  # two calls where one took no time
    assert table.curve(tiny, {1: 1.0}).break_even(tiny) == 0


def test_what_takes_no_time_may_have_any_rank(table):
    for site, calls in ((Site("table", (500, 40), "embedding"), {1: 9.0}), (WIDE, {})):
        curve = table.curve(site, calls)
        assert curve.seconds(DENSE) == curve.seconds(3) == 0.0
        assert curve.break_even(site) == site.largest_useful_rank


@pytest.mark.parametrize(("site", "most"), [(WIDE, MOST_ROWS), (RECURRENT, MOST_FRAMES)])
@pytest.mark.parametrize("rank", [DENSE, 5])
def test_time_goes_with_the_rows_beyond_those_measured_and_between_powers_of_two(
    table, site, most, rank
):
    def seconds(rows: int) -> float:
        return table.curve(site, {rows: 1.0}).seconds(rank)

    assert seconds(3 * most) == pytest.approx(3 * seconds(most))
    assert seconds(most + 1) == pytest.approx(seconds(most) * (most + 1) / most)
    assert seconds(96) == pytest.approx((seconds(64) + seconds(128)) / 2)
    assert seconds(80) == pytest.approx(seconds(64) + (seconds(128) - seconds(64)) / 4)
    both = table.curve(site, {96: 2.0, 3 * most: 0.5}).seconds(rank)
    assert both == pytest.approx(2 * seconds(96) + seconds(3 * most) / 2)


@pytest.mark.parametrize("rank", [DENSE, 20])
def test_a_call_takes_about_what_is_predicted(table, rank):
    """Loosely: others may be at work on this machine."""
    from espnet_shrink.layers import LowRankLinear

    out, width = WIDE.shape
    linear = torch.nn.Linear(width, out) if rank == DENSE else LowRankLinear(width, out, rank)
    for rows in (90, 3000):
        x = torch.randn(rows, width)
        with one_thread():
            (measured,) = least_seconds([lambda x=x: linear(x)], 15)
        assert 0.3 < table.curve(WIDE, {rows: 1.0}).seconds(rank) / measured < 3.0


def test_threads_are_as_before(table):
    before = torch.get_num_threads()
    table.curve(WIDE, {8: 1.0})
    assert torch.get_num_threads() == before


def decoded(loaded, data, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = survey(loaded.model)
    prices = cost_model(loaded.model, found, observe(loaded, found, data), data)
    return prices, latency(loaded, prices, data)


def test_a_models_time_is_that_of_its_sites_as_often_as_they_run_and_the_rest(
    baseline, tmp_path, monkeypatch
):
    data = extract(baseline, "dump/raw/dev")
    prices, found = decoded(baseline, data, tmp_path, monkeypatch)
    dense = dense_plan(prices.sites)
    assert found.rtf(dense) >= sum(found.site_rtf(s, DENSE) for s in prices.sites) > 0
    plan = random_plan(prices.sites, 0)
    by_hand = found.rest_rtf + sum(
        found.table.curve(s, found.calls[s.name]).seconds(plan.ranks[s.name]) for s in prices.sites
    )
    assert found.rtf(plan) == pytest.approx(by_hand)
    monkeypatch.setattr(module, "measure", None)  # would fail
    again = latency(baseline, prices, data)
    assert again.rest_rtf == found.rest_rtf and again.rtf(plan) == found.rtf(plan)  # kept


def test_the_calls_are_those_of_greedy_decoding_a_token_at_a_time(baseline, tmp_path, monkeypatch):
    """Not those of a pass over the reference, nor at the mean length."""
    data = extract(baseline, "dump/raw/dev")
    prices, found = decoded(baseline, data, tmp_path, monkeypatch)
    some = data.spread(10)
    model, steps = baseline.model, 0
    (attention,) = (d for d in decoders_of(model) if d.name == "attention")
    with torch.no_grad():
        for feature in some.features:
            encoded, lengths = encode(model, feature[None], torch.tensor([len(feature)]))
            (said,) = attention.greedy(model, encoded, lengths, [PROMPT])
            steps += len(said) + (len(said) < int(lengths))
    for name in ("decoder.decoder.0.weight_hh", "decoder.output.weight"):
        assert found.calls[name] == pytest.approx({1: steps / some.audio_s})
    frames = sorted(len(f) for f in some.features)
    for site in prices.sites:
        if "birnn0" in site.name:
            met = found.calls[site.name]
            assert sorted(met) == sorted(set(frames)) and len(met) > 3
            assert sum(met.values()) == pytest.approx(len(frames) / some.audio_s)


PROMPT = Prompt([len("abcd") + 3])  # <sos/eos> of conftest.TOKENS
NOISE_FRAMES, NOISE_TOKENS = 100, [1, 2, 3, 4, 5]


def noise(loaded) -> FeatureSet:
    width = getattr(loaded.args, "input_size", None) or loaded.model.frontend.output_size()
    features = torch.randn(NOISE_FRAMES, width)
    return FeatureSet([], [features], [NOISE_TOKENS], [1.0], prompts=[Prompt([0])])


@pytest.mark.parametrize("name", ["rnn", "transformer", "transducer", "asr_transducer"])
def test_noise_is_decoded_as_if_its_text_came_out_of_it(name, tmp_path, monkeypatch):
    """Every decoder goes token by token: one row at a time, or those that ESPnet's cache lacks."""
    loaded = make(name, tmp_path / "exp")
    data = noise(loaded)
    prices, found = decoded(loaded, data, tmp_path, monkeypatch)
    steps = len(NOISE_TOKENS) + 1
    with torch.no_grad():
        frames = encode(loaded.model, data.features[0][None], torch.tensor([NOISE_FRAMES]))[0].size(
            1
        )
    calls = {s.name: found.calls[s.name] for s in prices.sites if s.kind != "embedding"}
    if name == "rnn":
        assert calls["decoder.output.weight"] == {1: steps}
    elif name == "transformer":
        query = "decoder.decoders.0.self_attn.linear_q.weight"
        key = "decoder.decoders.0.self_attn.linear_k.weight"
        assert calls[query] == {1: steps}
        assert calls[key] == {n: 1 for n in range(1, steps + 1)}
        assert calls["decoder.decoders.0.src_attn.linear_k.weight"] == {frames: steps}
    else:
        assert calls["joint_network.lin_out.weight"] == {1: frames}
        recurrent = next(n for n in calls if n.startswith("decoder.") and "weight_hh" in n)
        assert calls[recurrent] == {1: steps}


def test_predictions_follow_the_model_when_it_is_factorised(baseline, tmp_path, monkeypatch):
    """Loosely: others may be at work on this machine."""
    from espnet_shrink.methods.lowrank.build import factorise
    from espnet_shrink.methods.lowrank.decompositions import factors_of

    data = extract(baseline, "dump/raw/dev")
    prices, found = decoded(baseline, data, tmp_path, monkeypatch)
    analysis = analyse(baseline, data, "plain")
    for share in (0.2, 0.9):
        plan = Plan({s.name: max(1, int(share * s.largest_useful_rank)) for s in prices.sites})
        small = baseline.copy()
        factorise(small.model, plan, factors_of(plan, analysis.decompositions))
        with one_thread():
            (seconds,) = least_seconds([lambda m=small: decode_alone(m, data)], 3)
        assert 0.3 < found.rtf(plan) / (seconds / data.audio_s) < 3.0
