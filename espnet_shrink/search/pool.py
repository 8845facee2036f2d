"""Plans of several compressions, good and bad ones, to see which utterances tell them apart."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from espnet_shrink.analysis import Analysis, analyse
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.plan import Plan
from espnet_shrink.proxy.features import FeatureSet
from espnet_shrink.proxy.score import Scorer
from espnet_shrink.proxy.select import Candidates
from espnet_shrink.search.problem import Problem, fit_to_budget
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.space import full_space

GROUPS = 3
PLANS = 6  # a group
SPREAD = 0.3  # standard deviation around the energy order, in log parameters of a site
MIN_RANK = 4
LEAST, MOST = 1.5, 12.0  # compressions, where the model can be made that small
SHARE = 0.7  # of the largest compression that the ranks allow
ANALYSED = 100  # utterances whose inputs whiten the decompositions


def find_candidates(loaded: LoadedModel, data: FeatureSet, seed: int) -> Candidates:
    """What a proxy set is chosen by: every utterance's errors, without a plan and with each."""
    some = np.random.default_rng(seed).permutation(len(data.utterances))[:ANALYSED]
    names = {data.utterances[i].name for i in some}
    analysis = analyse(loaded, data.subset(names), "whitened")
    plans, groups = sample_pool(analysis, seed)
    scorer = Scorer(loaded, data, analysis.decompositions)
    return Candidates(
        np.array([len(f) for f in data.features]),
        scorer.by_utterance(),
        np.array([scorer.by_utterance(p) for p in tqdm(plans, "plans on dev", unit="plan")]),
        groups,
    )


def sample_pool(analysis: Analysis, seed: int) -> tuple[list[Plan], np.ndarray]:
    """Plans around the energy order at three compressions, and the group of each."""
    sites, full = analysis.survey.sites, sum(analysis.cost_model.numels.values())
    space = full_space(sites, MIN_RANK)
    smallest = full - sum(s.params - s.params_at(space.ranges[s.name][0]) for s in sites)
    most = max(1.0, min(MOST, SHARE * full / smallest))
    generator = np.random.default_rng(seed)
    plans, groups = [], []
    for group, compression in enumerate(np.geomspace(min(LEAST, most), most, GROUPS)):
        problem = Problem(analysis.cost_model, space, int(full / compression), analysis.energies)
        prior = energy_order(problem).ranks
        centre = np.log([s.params_at(prior[s.name]) for s in sites])
        for _ in range(PLANS):
            offsets = generator.normal(0.0, SPREAD, len(sites))
            plans.append(fit_to_budget(problem, centre + offsets))
            groups.append(group)
    return plans, np.array(groups)
