"""What a compression method is: a folder that fills these contracts, and a row in registry.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import nn

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.plan import Amount, CostModel, Decision, Plan, Survey


class Planner(Protocol):
    """Puts one plan after another into views of one model."""

    def apply(self, plan: Plan) -> None:
        """Put `plan` into all views; what it does not name is as it was."""


class Compressor(Protocol):
    """What a method has worked out of one model, so that any plan is cheap. Can be pickled."""

    def planner(self, views: Sequence[nn.Module]) -> Planner:
        """For `views` of the model: modules of their own over the same weights."""

    def put(self, model: nn.Module, plan: Plan) -> None:
        """Change `model`, of the same weights, for good."""


class Prepared(Protocol):
    """One model, seen through data by one method."""

    @property
    def survey(self) -> Survey[Decision]: ...

    @property
    def cost_model(self) -> CostModel: ...

    @property
    def compressor(self) -> Compressor: ...

    @property
    def energies(self) -> Mapping[str, np.ndarray]:
        """Decision -> (k,) what each of its units is worth, descending."""

    @property
    def loss_changes(self) -> Mapping[str, np.ndarray]:
        """Decision -> (k,) what dropping each of its units adds to the model's loss, about.

        In the order of `energies`. Decisions that cannot be judged so are left out.

        Raises:
            ShrinkError: the loss cannot be computed.
        """


class Predictor(Protocol):
    """Predicts how long a model takes under a plan; times are seconds per second of audio."""

    @property
    def prices(self) -> CostModel: ...

    @property
    def rest_rtf(self) -> float:
        """Of all that no plan changes."""

    def rtf(self, plan: Plan) -> float:
        """Of the whole model."""

    def site_rtf(self, site: Decision, amount: Amount) -> float:
        """What one decision adds."""

    def break_even(self, site: Decision) -> int:
        """The largest amount at which it is smaller and faster than as it was; 0: none is."""


class Method(Protocol):
    """One way to make a model small."""

    name: str

    def survey(self, model: nn.Module) -> Survey[Decision]:
        """What it can decide on in `model`, and the rest by name with the reason."""

    def prepare(
        self,
        loaded: LoadedModel,
        data: FeatureSet,
        heard: FeatureSet | None,
        settings: Mapping[str, Any],
    ) -> Prepared:
        """Price plans of an uncompressed model, and make them cheap to try.

        Args:
            data: the proxy set.
            heard: by whose activations parts are weighed; None: those of `data`.
            settings: of the search.
        """

    def predictor(self, loaded: LoadedModel, prices: CostModel, data: FeatureSet) -> Predictor:
        """Times of plans on this machine.

        Raises:
            ShrinkError: the method knows none.
        """

    def build(self, model: nn.Module, plan: Plan) -> None:
        """Give a freshly built model the shapes of `plan`: a checkpoint brings the values."""

    def settle(self, model: nn.Module) -> None:
        """Fold a compressed model back to plain layers, so that it can be searched again."""
