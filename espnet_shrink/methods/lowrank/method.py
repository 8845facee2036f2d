"""Low rank as one of the methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.methods.lowrank.analysis import Analysis, analyse, latency
from espnet_shrink.methods.lowrank.build import build, fold
from espnet_shrink.methods.lowrank.latency import Latency
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import LOWRANK, CostModel, Plan, Survey


class LowRank:
    """W ~ U V for every matrix that a plan gives a rank (ShrinkML, 1907.03540)."""

    name = LOWRANK

    def survey(self, model: nn.Module) -> Survey[Site]:
        """Its matrices."""
        return survey(model)

    def prepare(
        self,
        loaded: LoadedModel,
        data: FeatureSet,
        heard: FeatureSet | None,
        settings: Mapping[str, Any],
    ) -> Analysis:
        """Decompose every matrix once; `settings` has the kind of decomposition."""
        return analyse(loaded, data, settings["decomposition"], heard)

    def predictor(self, loaded: LoadedModel, prices: CostModel, data: FeatureSet) -> Latency:
        """From measured times of its matrices."""
        return latency(loaded, prices, data)

    def build(self, model: nn.Module, plan: Plan) -> None:
        """Low-rank layers of the plan's ranks, factors zero."""
        build(model, plan)

    def settle(self, model: nn.Module) -> None:
        """Multiply the factors out."""
        fold(model)
