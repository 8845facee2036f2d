"""Plans of several compressions, good and bad ones, to see which utterances tell them apart."""

from __future__ import annotations

import dataclasses

import numpy as np
from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.data.select import Candidates
from espnet_shrink.methods.base import Prepared
from espnet_shrink.methods.registry import method_of
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.plan import LOWRANK, Plan
from espnet_shrink.search.problem import Problem, fit_to_budget, log_sizes_of
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import full_space

GROUPS = 3
PLANS = 6  # a group
SPREAD = 0.3  # standard deviation around the energy order, in log parameters of a site
LEAST, MOST = 1.5, 12.0  # compressions, where the model can be made that small
SHARE = 0.7  # of the largest compression that the ranks allow
ANALYSED = 100  # utterances whose inputs whiten the decompositions


def find_candidates(
    loaded: LoadedModel, data: FeatureSet, seed: int, method: str = LOWRANK
) -> Candidates:
    """What a proxy set is chosen by: every utterance's errors, without a plan and with each."""
    some = np.random.default_rng(seed).permutation(len(data.utterances))[:ANALYSED]
    names = {data.utterances[i].name for i in some}
    settings = dataclasses.asdict(SearchSettings())
    analysis = method_of(method).prepare(loaded, data.subset(names), None, settings)
    plans, groups = sample_pool(analysis, seed)
    scorer = Scorer(loaded, data, analysis.compressor)
    return Candidates(
        np.array([len(f) for f in data.features]),
        scorer.by_utterance(),
        np.array([scorer.by_utterance(p) for p in tqdm(plans, "plans on dev", unit="plan")]),
        groups,
    )


def sample_pool(analysis: Prepared, seed: int) -> tuple[list[Plan], np.ndarray]:
    """Plans around the energy order at three compressions, and the group of each."""
    full = sum(analysis.cost_model.numels.values())
    space = full_space(analysis.survey.sites, SearchSettings.min_rank)
    free = Problem(analysis.cost_model, space, full, analysis.energies)
    most = max(1.0, min(MOST, SHARE * full / (free.fixed_params + free.least)))
    generator = np.random.default_rng(seed)
    plans, groups = [], []
    for group, compression in enumerate(np.geomspace(min(LEAST, most), most, GROUPS)):
        problem = free.of_params(int(full / compression))
        centre = log_sizes_of(problem, energy_order(problem))
        for _ in range(PLANS):
            offsets = generator.normal(0.0, SPREAD, len(centre))
            plans.append(fit_to_budget(problem, centre + offsets))
            groups.append(group)
    return plans, np.array(groups)
