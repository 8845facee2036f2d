"""The search space belongs to the whole run: every round keeps to it, in rounds and in compress."""

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import SEARCH, tree

from espnet_shrink.core.files import read_yaml
from espnet_shrink.core.weights import model_hash
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.rounds import RoundsSettings, run_rounds
from espnet_shrink.plan import DENSE, Plan
from espnet_shrink.search.searchers import check_evaluations
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace, full_space
from espnet_shrink.training.espnet2 import leave_untrained

CTC = "ctc.ctc_lo.weight"
SITES = [Site("ctc.out.weight", (20, 30), "linear"), Site("enc.a.weight", (40, 30), "linear"),
         Site("enc.b.weight", (9, 50), "linear")]  # fmt: skip


def two_rounds(out: Path, **search) -> list[dict]:
    """Rounds whose trainer leaves everything as it is; their searches' settings."""

    def untrained(request):
        leave_untrained(request.base_config, request.state, request.exp, request.changes)

    run_rounds(
        open_baseline("exp/asr"), Path("dump/raw/test"), Path("dump/raw/dev"), out,
        RoundsSettings(target=2.0, step=1.5, control=False, wer_limit_absolute=1e3),
        SearchSettings(**{"searcher": "uniform", "min_rank": 1, "finalists": 1, **search}),
        retrain=untrained,
    )  # fmt: skip
    return [read_yaml(out / f"round{n}" / "search" / "settings.yaml") for n in (1, 2)]


def test_every_round_keeps_to_an_edited_space_and_to_the_ranks_there_are(recipe, shrink):
    assert shrink("space", "--exp", "exp/asr", "--out", "out").status == 0
    space = read_yaml("out/space.yaml")
    floored = next(n for n, s in space["sites"].items() if s["kind"] == "lstm_input")
    space["sites"][CTC]["ranks"] = [DENSE, DENSE]
    space["sites"][floored]["ranks"] = [5, DENSE]
    for name, site in space["sites"].items():
        if name not in (CTC, floored):
            site["ranks"][0] = 1
    Path("out/space.yaml").write_text(yaml.safe_dump(space))
    searches = two_rounds(Path("out"))
    plans = [Plan.load(f"out/round{n}/plan.yaml").ranks for n in (1, 2)]
    sites = {s.name: s for s in survey(open_baseline("exp/asr").model).sites}
    for plan, search in zip(plans, searches, strict=True):
        assert plan[CTC] == DENSE and search["space"][CTC] == [DENSE, DENSE]
        assert plan[floored] == DENSE or plan[floored] >= 5
        assert search["space"][floored][0] == 5
    factored = {name: rank for name, rank in plans[0].items() if rank != DENSE}
    assert len(factored) > 5
    for name, rank in factored.items():
        assert searches[1]["space"][name][1] == rank
        assert sites[name].params_at(plans[1][name]) <= sites[name].params_at(rank)
    assert searches[1]["base_hash"] != model_hash(open_baseline("exp/asr").model)


def test_patterns_hold_in_every_round_whatever_the_space_says(recipe, shrink):
    assert shrink("space", "--exp", "exp/asr", "--out", "out").status == 0
    searches = two_rounds(Path("out"), keep_dense=["ctc*"], min_rank_share=0.2)
    for number, search in enumerate(searches, 1):
        ranks = Plan.load(f"out/round{number}/plan.yaml").ranks
        assert ranks[CTC] == DENSE and search["space"][CTC] == [DENSE, DENSE]
    sites = survey(open_baseline("exp/asr").model).sites
    for site in sites:
        low = searches[0]["space"][site.name][0]
        assert low == DENSE or low >= 0.2 * site.full_rank


@pytest.fixture
def preset(recipe):
    """Write search.yaml."""

    def write(**settings: object) -> list[object]:
        Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, **settings}))
        return ["--search_config", "search.yaml"]

    return write


COMPRESS = ["compress", "exp/asr", "--data", "dump/raw/dev", "--no-retrain", "--out", "out"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep_dense": ["nosuch*"]}, "keep_dense: no site matches 'nosuch*'"),
        ({"keep_dense": ["ctc*", "Encoder*"]}, "no site matches 'Encoder*'"),
        ({"keep_dense": [3]}, "keep_dense is [3], but must be list (Expected `str`, got `int`"),
        ({"keep_dense": [" "]}, "keep_dense must hold patterns"),
        ({"keep_dense": "ctc*"}, "keep_dense is 'ctc*', but must be list"),
        ({"min_rank_share": 1.5}, "min_rank_share must be from 0 to 1, not 1.5"),
        ({"keep_dense": ["*"]}, "cannot be met"),
        ({"min_rank_share": 1.0}, "cannot be met"),
        ({"evaluations": 6}, "too few for a search of reinforce with 4 rollouts"),
        ({"rollouts": 50}, "set evaluations to at least 53"),
        ({"searcher": "knapsack", "evaluations": 5}, "too few for a search of knapsack"),
        ({"site_limit": 1.0}, "after a scan, which site_limit wants 30% of them for"),
    ],
)
def test_what_cannot_work_is_refused_before_the_proxy_set(recipe, preset, shrink, settings, said):
    options = preset(**settings)
    before = tree(recipe)
    ended = shrink(*COMPRESS, "--target", "1.5x", *options)
    assert ended.status == 2 and said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert tree(recipe) == before and not Path("out").exists()


def test_a_pattern_may_name_a_matrix_that_stays_dense_anyway(recipe, preset, shrink):
    preset(keep_dense=["ctc*", "decoder.embed*"])
    ended = shrink("space", "--exp", "exp/asr", "--out", "out", "--search_config", "search.yaml")
    assert ended.status == 0, ended.err
    assert read_yaml("out/space.yaml")["sites"][CTC]["ranks"] == [DENSE, DENSE]


def test_a_plan_outside_of_the_space_is_refused(finished, shrink):
    plan = read_yaml("small/search/plan.yaml")
    site = next(name for name, rank in plan["ranks"].items() if rank != DENSE)
    space = read_yaml("small/space.yaml")
    space["sites"][site]["ranks"] = [DENSE, DENSE]
    Path("space.yaml").write_text(yaml.safe_dump(space))
    shutil.rmtree("new", ignore_errors=True)
    ended = shrink("rounds", "--exp", "exp/asr", "--out", "new", "--proxy", "small/proxy",
                   "--data", "dump/raw/dev", "--rounds_config", "rounds.yaml", "--search_config",
                   "search.yaml", "--plan", "small/search/plan.yaml", "--space",
                   "space.yaml")  # fmt: skip
    assert ended.status == 2
    assert f"the plan gives {site} the rank {plan['ranks'][site]}, but the search space" in (
        ended.err
    )
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"site_limit": 1.0}, 504),  # 151 scores are three tenths of 504
        ({"searcher": "knapsack"}, 152),
        ({"searcher": "sensitivity"}, 152),
        ({"rollouts": 200}, 203),
    ],
)
def test_the_number_said_is_the_least_that_works(settings, needed):
    space = SearchSpace({f"site{i}": (1, DENSE) for i in range(150)} | {"kept": (DENSE, DENSE)})
    for evaluations in (100, needed - 1):
        with pytest.raises(ShrinkError, match=f"150 sites .* at least {needed}$"):
            check_evaluations(SearchSettings(evaluations=evaluations, **settings), space)
    check_evaluations(SearchSettings(evaluations=needed, **settings), space)


def test_floors_and_kept_sites_of_a_space():
    full = full_space(SITES, 4)
    space = full.constrained(SITES, SearchSettings(keep_dense=["ctc*"], min_rank_share=0.5))
    assert space.ranges == {
        "ctc.out.weight": (DENSE, DENSE), "enc.a.weight": (15, DENSE), "enc.b.weight": (5, DENSE),
    }  # fmt: skip
    space = full.constrained(SITES, SearchSettings(min_rank_share=0.9))
    assert space.ranges["enc.a.weight"] == (DENSE, DENSE)  # 27 is past break-even
    narrow = SearchSpace({**full.ranges, "enc.a.weight": (4, 6)})
    with pytest.raises(ShrinkError, match=r"min_rank_share 0\.5 lets enc\.a\.weight go no lower"):
        narrow.constrained(SITES, SearchSettings(min_rank_share=0.5))
    below = full.below(Plan(dict(zip(full.ranges, (3, 7, DENSE), strict=True))), SITES)
    assert list(below.ranges.values()) == [(3, 3), (4, 7), (4, DENSE)]
