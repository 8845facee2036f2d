"""Views of a model follow one plan after another, and only what changed is made anew."""

import copy

import pytest
import torch
from toy import close, random_plan, toy, utterance, zoo

from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.kinds import is_low_rank
from espnet_shrink.methods.lowrank.replan import Replanner
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import DENSE, Plan, dense_plan


def prepared(model):
    sites = survey(model).sites
    decompositions = decompose_sites(dict(model.named_parameters()), sites, None)
    views = [copy.deepcopy(model) for _ in range(2)]
    return sites, decompositions, views, Replanner(views, decompositions)


@pytest.mark.parametrize("make", [toy, zoo])
def test_views_compute_what_the_factorised_model_does(make):
    model = make()
    sites, decompositions, views, replanner = prepared(model)
    given = utterance(6) if make is toy else (torch.arange(1, 10)[None],)
    plans = [dense_plan(sites), *(random_plan(sites, seed) for seed in range(4))]
    for plan in [*plans, *reversed(plans)]:
        factored = copy.deepcopy(model)
        factorise(factored, plan, factors_of(plan, decompositions))
        replanner.apply(plan)
        with torch.no_grad():
            for view in views:
                close(view(*given), factored(*given))
    assert not any(is_low_rank(m) for view in views for m in view.modules())


def test_only_layers_with_another_rank_are_made():
    sites, _, (view, _), replanner = prepared(toy())
    ranks = {site.name: 2 for site in sites}
    replanner.apply(Plan(ranks))
    before = dict(view.named_modules())
    replanner.apply(Plan({**ranks, "birnn.weight_hh_l1": 3, "proj.weight": DENSE}))
    after = dict(view.named_modules())
    changed = {path for path in after if after[path] is not before.get(path)}
    assert changed == {"birnn", "proj"}
    assert after["birnn"].ranks["weight_hh_l1"] == 3 and type(after["proj"]) is torch.nn.Linear
