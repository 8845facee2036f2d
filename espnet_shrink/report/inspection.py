"""An inspected model as plain data: its sites, their spectra, and its parameters, size and MACs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from espnet_shrink.plan import Amount, Uncompressed

ENERGY_PERCENTS = (90, 95, 99)


@dataclass(frozen=True)
class SiteRow:
    """One weight matrix that can be factorised.

    Attributes:
        name: its parameter name in the uncompressed model.
        kind: a value of `methods.lowrank.kinds.SiteKind`.
        shape: (out, in).
        params: its parameters as it is: those of its factors, if it is factorised.
        share: they as a share of all parameters of the model as it is.
        energy_ranks: percent -> the smallest rank whose squared singular values (of the plain
            SVD) make up that share of their sum.
        break_even_rank: the largest rank whose factors are smaller than the matrix.
        rank: the rank that it is factorised at, or "dense".
        fast_rank: the largest rank that is smaller and, on this machine, faster than the dense
            matrix; 0: none is. None: not measured.
        rtf: what it adds to the real-time factor as it is. None: not measured.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    params: int
    share: float
    energy_ranks: Mapping[str, int]
    break_even_rank: int
    rank: Amount
    fast_rank: int | None = None
    rtf: float | None = None


@dataclass(frozen=True)
class Totals:
    """Of the whole model as it is.

    Attributes:
        params: number of parameters.
        size_mib: their size as float32, in MiB.
        stored_mib: type of number in the checkpoint -> MiB of parameters.
        buffers_mib: the same of buffers, such as feature statistics.
        int8_size_mib: weights and buffers in memory after ESPnet's dynamic quantisation, in MiB.
        int8_float_mib: what of that stays as it is, and is not in 8 bits.
        compression: parameters with all factors multiplied out / `params`.
        macs_per_audio_second: as in `cost.Cost`; None of a language model. Quantised it is the
            same number: of 8-bit products, where weights are in 8 bits.
        macs_per_token: the same of a language model.
        macs_over: what was passed through the model to count them.
        rtf: real-time factor of a greedy pass from the features on, on one thread of this
            machine, as `latency.Latency` predicts it; None: not measured.
    """

    params: int
    size_mib: float
    stored_mib: Mapping[str, float]
    buffers_mib: Mapping[str, float]
    int8_size_mib: float
    int8_float_mib: float
    compression: float
    macs_per_audio_second: float | None
    macs_per_token: float | None
    macs_over: str
    rtf: float | None = None


@dataclass(frozen=True)
class Inspection:
    """One model.

    Attributes:
        model: where it came from.
        checkpoint: name of the checkpoint's file.
        task: as in `compat.tasks.TASKS`.
        espnet: the version that read it.
        sites: in the order of the model.
        uncompressed: all other parameters, with the reason why they are no sites.
        totals: of all of it.
        energies: site -> (k,) squared singular values, descending; not in `document`.
    """

    model: str
    checkpoint: str
    task: str
    espnet: str
    sites: Sequence[SiteRow]
    uncompressed: list[Uncompressed]
    totals: Totals
    energies: Mapping[str, np.ndarray]

    @property
    def is_compressed(self) -> bool:
        """Whether any site is factorised."""
        return any(isinstance(site.rank, int) for site in self.sites)

    def document(self) -> dict[str, Any]:
        """All but the spectra and what was not measured, for JSON."""
        found = dataclasses.asdict(dataclasses.replace(self, energies={}))
        del found["energies"]
        found["totals"] = _measured(found["totals"])
        found["sites"] = [_measured(site) for site in found["sites"]]
        return found


def _measured(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def kept_energy(energies: np.ndarray) -> np.ndarray:
    """(k,): the share of all energy that ranks 1, 2, ... hold; all ones if there is none."""
    sums = np.cumsum(energies)
    return sums / sums[-1] if sums[-1] > 0 else np.ones_like(sums)


def energy_rank(energies: np.ndarray, share: float) -> int:
    """The smallest rank, at least 1, that holds `share` of all energy."""
    # Sums of floats end a little beside what they should be.
    return int(np.searchsorted(kept_energy(energies), share - 1e-9)) + 1
