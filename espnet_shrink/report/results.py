"""results.json: what a run of compress-and-retrain rounds cost and gained, as plain data.

Version 1. Keys that came later (`variants`, `metric`, `cer_interval`, `left_out`) may be missing,
all others are required; WER and CER are in percent, per test set; folders (`exp`) are relative to
the folder of results.json. `compression` counts every parameter of the model. Where `metric` is
"cer", texts have no words: `wer` means nothing there, and the keys dev_wer, dev_wer_limit and
wer_before_retraining are of CER.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from espnet_shrink.core.files import write_atomically
from espnet_shrink.data.metric import Metric
from espnet_shrink.errors import ShrinkError

VERSION: Literal[1] = 1

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Rank = Annotated[int, msgspec.Meta(ge=1)]
PerSet = dict[str, Amount]
Intervals = dict[str, tuple[Amount, Amount]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured of every model.

    Attributes:
        params: all parameters of the model.
        size_mib: the checkpoint's parameters in MiB.
        macs_per_audio_second: multiply-accumulates for one second of audio.
        wer: percent, per set.
        cer: percent, per set.
        rtf: real-time factor (seconds of decoding per second of audio), per set where measured.
        wer_interval: 95 % bootstrap interval of the WER, per set.
        cer_interval: the same of the CER.
        exp: experiment folder, relative to results.json.
    """

    params: Count
    size_mib: Amount
    macs_per_audio_second: Amount
    wer: PerSet
    cer: PerSet
    rtf: PerSet
    wer_interval: Intervals
    cer_interval: Intervals = field(default_factory=dict)
    exp: str

    def __post_init__(self) -> None:
        _check_sets(self)


def _check_sets(system: Measured | Variant) -> None:
    for key in ("cer", "wer_interval"):
        if getattr(system, key).keys() != system.wer.keys():
            raise ValueError(f"`{key}` and `wer` are not of the same sets")
    for key in ("rtf", "cer_interval"):
        if not getattr(system, key).keys() <= system.wer.keys():
            raise ValueError(f"`{key}` has sets that `wer` has not")
    for key in ("wer_interval", "cer_interval"):
        for name, (low, high) in getattr(system, key).items():
            if low > high:
                raise ValueError(f"`{key}` of {name} ends below its start")


def rates(system: Measured | Variant, metric: Metric) -> PerSet:
    """The error rate that decides, in percent, per set."""
    return system.cer if metric == "cer" else system.wer


def intervals(system: Measured | Variant, metric: Metric) -> Intervals:
    """Its 95 % bootstrap intervals, per set."""
    return system.cer_interval if metric == "cer" else system.wer_interval


@dataclass(frozen=True, kw_only=True)
class System(Measured):
    """An uncompressed model: the baseline, or the control with the rounds' extra epochs."""

    epochs: Count


@dataclass(frozen=True, kw_only=True)
class Round(Measured):
    """One pass of search, factorise, retrain.

    A round that was rolled back has no WER, CER and RTF: it was judged on dev data.

    Attributes:
        dev_wer: the deciding error rate on dev data after retraining, in percent;
            `dev_wer_limit` is what it may be.
        wer_before_retraining: percent, per set; may be empty.
        ranks: rank of each site, or "dense".
        full_ranks: min(out, in) of the same sites.
    """

    round: Rank
    status: Literal["accepted", "rolled_back"]
    compression: Amount
    target_compression: Amount
    search_evaluations: Count
    searcher: str
    epochs: Count
    dev_wer: Amount
    dev_wer_limit: Amount
    wer_before_retraining: PerSet
    ranks: dict[str, Rank | Literal["dense"]]
    full_ranks: dict[str, Rank]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranks.keys() != self.full_ranks.keys():
            raise ValueError("`ranks` and `full_ranks` are not of the same sites")
        for site, rank in self.ranks.items():
            if rank != "dense" and rank > self.full_ranks[site]:
                raise ValueError(f"`ranks` of {site} is past its full rank")


@dataclass(frozen=True, kw_only=True)
class Final(Measured):
    """The model handed back: that of the accepted round `round`, 0 for the baseline."""

    compression: Amount
    round: Count


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The final model in another form: quantised, or exported to ONNX.

    Attributes:
        name: the form and, if it is not the report's, the way of decoding.
        size_mib: its files on disk, in MiB.
        memory_mib: its weights in memory, in MiB.
        wer, cer, rtf, wer_interval, cer_interval: as `Measured`, of one or more of its sets.
        exp: folder of its hypotheses or files, relative to results.json.
    """

    name: str
    size_mib: Amount
    memory_mib: Amount
    wer: PerSet
    cer: PerSet
    rtf: PerSet
    wer_interval: Intervals
    cer_interval: Intervals = field(default_factory=dict)
    exp: str

    def __post_init__(self) -> None:
        _check_sets(self)


@dataclass(frozen=True, kw_only=True)
class Uncompressed:
    """A parameter that was not a candidate for compression, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A form of the final model that has no row, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Versions:
    """What the run was made with."""

    python: str
    torch: str
    espnet: str
    espnet_shrink: str


@dataclass(frozen=True, kw_only=True)
class Results:
    """The whole of results.json."""

    version: Literal[1] = VERSION
    seed: int
    corpus: str
    baseline: System
    control: System | None
    rounds: list[Round]
    final: Final
    uncompressed: list[Uncompressed]
    versions: Versions
    commands: list[str]
    variants: list[Variant] = field(default_factory=list)
    metric: Metric = "wer"
    left_out: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        sets = self.baseline.wer.keys()
        if not sets:
            raise ValueError("`baseline` has no `wer` of any set")
        others: list[tuple[str, Measured | None]] = [
            ("baseline", self.baseline),
            ("control", self.control),
            ("final", self.final),
            *((f"rounds[{i}]", r) for i, r in enumerate(self.rounds) if r.status == "accepted"),
        ]
        for key, other in others:
            if other is not None and other.wer.keys() != sets:
                raise ValueError(f"`{key}` and `baseline` are not of the same sets")
            if other is not None and intervals(other, self.metric).keys() != sets:
                raise ValueError(f"`{key}` has no `cer_interval` of some set")
        for i, variant in enumerate(self.variants):
            if not variant.wer.keys() <= sets:
                raise ValueError(f"`variants[{i}]` has sets that `baseline` has not")
        if self.final.round not in {0, *(r.round for r in self.accepted)}:
            raise ValueError("`final.round` is not an accepted round")

    @property
    def sets(self) -> list[str]:
        """Names of the sets that were scored."""
        return list(self.baseline.wer)

    @property
    def accepted(self) -> list[Round]:
        """The rounds that were not rolled back."""
        return [r for r in self.rounds if r.status == "accepted"]

    def better_baseline(self, name: str) -> Literal["baseline", "control"]:
        """Which uncompressed model has the lower error rate on the set `name`."""
        before = rates(self.baseline, self.metric)[name]
        if self.control is not None and rates(self.control, self.metric)[name] < before:
            return "control"
        return "baseline"


@dataclass(frozen=True)
class _Header:
    version: int


def load(path: str | os.PathLike[str]) -> Results:
    """Read and check a results.json.

    Raises:
        ShrinkError: no such file, not JSON, another version, or a key that is missing, of the
            wrong type or at odds with another; the message names the key.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ShrinkError(f"{path}: cannot be read: {error.strerror}") from error
    return _decode(content, path)


def save(results: Results, path: str | os.PathLike[str]) -> None:
    """Write `results` to `path`, whole or not at all, and only if `load` would take it.

    Raises:
        ShrinkError: a value that `load` would refuse.
    """
    content = msgspec.json.encode(results, enc_hook=_plain)
    _decode(content, path)
    with write_atomically(path) as beside:
        beside.write_bytes(msgspec.json.format(content, indent=2) + b"\n")


def _decode(content: bytes, path: str | os.PathLike[str]) -> Results:
    try:
        # The version comes first: a later one may lack or add any other key.
        version = msgspec.json.decode(content, type=_Header).version
        if version != VERSION:
            raise ShrinkError(
                f"{path}: `version` is {version}, this espnet_shrink reads {VERSION}: "
                "use the espnet_shrink that wrote it"
            )
        return msgspec.json.decode(content, type=Results)
    except msgspec.ValidationError as error:
        raise ShrinkError(f"{path}: {error}: not a valid results file") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShrinkError(f"{path}: not JSON: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise ShrinkError(f"results cannot hold {value!r}, a {type(value).__name__}")
