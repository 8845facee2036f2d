"""Measured times of matrices: real ones, kept, and rising with the rank."""

import pytest
import torch
from toy import random_plan

from espnet_shrink import latency as module
from espnet_shrink.analysis import analyse, latency
from espnet_shrink.errors import ShrinkError
from espnet_shrink.latency import LatencyTable
from espnet_shrink.plan import DENSE, Site, dense_plan
from espnet_shrink.proxy.features import extract

WIDE = Site("wide", (1024, 768), "linear")


@pytest.fixture
def table(tmp_path):
    return LatencyTable(tmp_path)


@pytest.mark.parametrize(
    ("kind", "shape", "rows"),
    [("linear", (96, 64), 40), ("cell_recurrent", (256, 64), 1), ("lstm_recurrent", (256, 64), 20),
     ("gru_recurrent", (192, 64), 20), ("pointwise_conv", (96, 64), 7)],
)  # fmt: skip
def test_time_rises_with_the_rank_and_none_is_faster_than_light(table, kind, shape, rows):
    site = Site("site", shape, kind)
    seconds = [table.seconds(site, rows, rank) for rank in range(1, site.largest_useful_rank + 1)]
    assert seconds == sorted(seconds) and 1e-8 < seconds[0] and seconds[-1] < 1.0
    assert 1e-8 < table.seconds(site, rows, DENSE) < 1.0


def test_a_large_matrix_is_faster_at_a_low_rank_and_a_tiny_one_never(table):
    assert table.seconds(WIDE, 64, 8) < table.seconds(WIDE, 64, DENSE) / 2
    assert 8 < table.break_even(WIDE, 64) <= WIDE.largest_useful_rank
    tiny = Site("tiny", (12, 12), "linear")  # two calls where one took no time
    assert table.break_even(tiny, 1) == 0


def test_a_look_up_takes_no_time_and_may_have_any_rank(table):
    site = Site("table", (500, 40), "embedding")
    assert table.seconds(site, 1, DENSE) == table.seconds(site, 1, 3) == 0.0
    assert table.break_even(site, 1) == site.largest_useful_rank


def test_what_was_measured_is_kept_for_the_next_process(table, tmp_path, monkeypatch):
    first = [table.seconds(WIDE, 64, rank) for rank in (5, 100, DENSE)]
    monkeypatch.setattr(module, "_measure", None)  # would fail
    again = LatencyTable(tmp_path)
    assert [again.seconds(WIDE, 64, rank) for rank in (5, 100, DENSE)] == first
    assert again.seconds(WIDE, 70, 5) == first[0]  # about as many rows
    with pytest.raises(TypeError):
        again.seconds(WIDE, 1, 5)


def test_threads_are_as_before(table):
    before = torch.get_num_threads()
    table.seconds(WIDE, 8, DENSE)
    assert torch.get_num_threads() == before


def test_a_models_time_is_that_of_its_sites_as_often_as_they_run_and_the_rest(
    baseline, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = extract(baseline, "dump/raw/dev")
    prices = analyse(baseline, data, "plain").cost_model
    found = latency(baseline, prices, data)
    assert found.table.path.parent == tmp_path / "espnet_shrink"
    dense = dense_plan(prices.sites)
    assert found.rtf(dense) > sum(found.site_rtf(s, DENSE) for s in prices.sites) > 0
    plan = random_plan(prices.sites, 0)
    by_hand = found.rest_rtf + sum(
        found.table.seconds(s, found.rows(s), plan.ranks[s.name])
        * prices.rates[s.name] / max(1, round(prices.rows[s.name]))
        for s in prices.sites
    )  # fmt: skip
    assert found.rtf(plan) == pytest.approx(by_hand)
    rows = {s.name: found.rows(s) for s in prices.sites}
    assert all(rows[s.name] == 1 for s in prices.sites if s.kind.startswith("cell"))
    assert all(rows[s.name] > 5 for s in prices.sites if s.kind.startswith("lstm"))
    assert latency(baseline, prices, data).rest_rtf == found.rest_rtf  # kept too


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    table = LatencyTable(tmp_path / "file" / "cache")
    with pytest.raises(ShrinkError, match="cannot keep measured times in .*set XDG_CACHE_HOME"):
        table.seconds(Site("site", (8, 8), "linear"), 1, 2)
