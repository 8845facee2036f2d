"""The plans that judge a proxy set: of several compressions, all of them allowed."""

import numpy as np
import pytest
import torch

from espnet_shrink.methods.lowrank.analysis import Analysis
from espnet_shrink.methods.lowrank.decompositions import decompose_sites
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan.cost import CostModel
from espnet_shrink.search.pool import (
    GROUPS,
    PLANS,
    find_candidates,
    sample_pool,
)
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import full_space


def analysis():
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in [(40, 90), (90, 70), (70, 50)]))
    found = survey(model)
    parameters = dict(model.named_parameters())
    numels = {name: p.numel() for name, p in parameters.items()}
    return Analysis(
        found,
        CostModel(found.sites, numels, {}),
        lambda: decompose_sites(parameters, found.sites, None),
    )


def test_groups_are_of_one_compression_each_and_differ():
    made = analysis()
    plans, groups = sample_pool(made, seed=0)
    assert len(plans) == GROUPS * PLANS and sorted(set(groups)) == list(range(GROUPS))
    params = np.array([made.cost_model.cost(plan).params for plan in plans])
    for group in range(GROUPS):
        own = params[groups == group]
        assert own.max() < 1.1 * own.min()
        assert len({plan.hash for plan, g in zip(plans, groups, strict=True) if g == group}) > 1
    assert params[groups == 0].min() > params[groups == 1].max()
    assert params[groups == 1].min() > params[groups == 2].max()
    space = full_space(made.survey.sites, SearchSettings().min_rank)
    for plan in plans:
        plan.check(made.survey.sites)
        for site in made.survey.sites:
            lowest, _ = space.ranges[site.name]
            assert site.params_at(plan.ranks[site.name]) >= site.params_at(lowest)


def test_the_seed_decides():
    made = analysis()
    hashes = [[plan.hash for plan in sample_pool(made, seed)[0]] for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_candidates_add_up_to_the_scores_of_the_plans(baseline):
    from espnet_shrink.data.features import extract
    from espnet_shrink.methods.lowrank.analysis import analyse
    from espnet_shrink.objectives.score import Scorer

    dev = extract(baseline, "dump/raw/dev")
    found = find_candidates(baseline, dev, seed=0)
    assert list(found.lengths) == [len(f) for f in dev.features]
    assert found.errors.sum() == pytest.approx(Scorer(baseline, dev).score().errors)
    seen = analyse(baseline, dev, "whitened")
    plans, groups = sample_pool(seen, seed=0)
    assert list(groups) == list(found.groups)
    scorer = Scorer(baseline, dev, seen.decompositions)
    for row, plan in zip(found.plan_errors, plans, strict=True):
        assert row.sum() == pytest.approx(scorer.score(plan).errors)
