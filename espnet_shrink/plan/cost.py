"""What a model costs under a plan: parameters, size and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from espnet_shrink.plan.decision import Decision
from espnet_shrink.plan.plan import Plan

BYTES_PER_PARAM = 4  # float32


@dataclass(frozen=True)
class Cost:
    """Cost of one model, all its parameters counted, embeddings and all.

    Attributes:
        params: number of parameters.
        size_mib: their size in a checkpoint, in MiB.
        macs_per_audio_second: multiply-accumulates with weights in one greedy pass over a
            second of audio (products between activations, as in attention, are not counted).
    """

    params: int
    size_mib: float
    macs_per_audio_second: float


@dataclass(frozen=True)
class CostModel:
    """Prices plans of one model without building it.

    Attributes:
        sites: the matrices a plan decides on.
        numels: parameter name -> number of elements, of the uncompressed model.
        rates: parameter name -> how often each element is used per second of audio, as
            measured on the proxy set; absent means never (biases, embeddings).
        widths: parameter name -> bytes of a number in the checkpoint; absent means 4 (float32).
    """

    sites: Sequence[Decision]
    numels: Mapping[str, int]
    rates: Mapping[str, float]
    widths: Mapping[str, int] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """How often each element of a parameter is used per second of audio."""
        return self.rates.get(name, 0.0)

    def width(self, name: str) -> int:
        """Bytes of a number of a parameter in the checkpoint."""
        return self.widths.get(name, BYTES_PER_PARAM)

    def cost(self, plan: Plan) -> Cost:
        """Cost of the model under `plan`."""
        numels = dict(self.numels)
        for site in self.sites:
            numels[site.name] = site.params_at(plan.amounts[site.name])
        params = sum(numels.values())
        macs = sum(numels[name] * rate for name, rate in self.rates.items())
        size = sum(n * self.width(name) for name, n in numels.items())
        return Cost(params, size / 2**20, macs)
