"""results.json: what compressing a model to one or several sizes cost and gained, as plain data.

Version 2. At the top: what all sizes share (`baseline`, `uncompressed`, `versions`, `commands`);
`sizes` has an entry for every target; `metric` names the score that decides. Scores go by metric
and set: `{"wer": {"test": {"value": 3.4, "interval": [2.7, 4.2]}}}`. WER and CER are in percent;
of every metric less is better. Where `metric` is "cer", texts have no words, and there is no WER.
`compression` counts every parameter of the model. Folders (`exp`) are relative to that of
results.json. Version 1, of one size, is read as well (`version1.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from espnet_shrink.core.files import write_atomically
from espnet_shrink.errors import ShrinkError
from espnet_shrink.report.version1 import upgraded

VERSION: Literal[2] = 2

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Rank = Annotated[int, msgspec.Meta(ge=1)]
PerSet = dict[str, Amount]
Intervals = dict[str, tuple[Amount, Amount]]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score on one set.

    Attributes:
        interval: 95 % bootstrap interval; None: not known.
    """

    value: Amount
    interval: tuple[Amount, Amount] | None = None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What decodes or is scored.

    Attributes:
        scores: metric ("wer", "cer", "ppl", ...) -> set -> estimate.
        rtf: real-time factor (seconds of decoding per second of audio), per set where measured.
        exp: its folder, relative to results.json.
    """

    scores: dict[str, dict[str, Estimate]]
    rtf: PerSet
    exp: str

    def __post_init__(self) -> None:
        first, *others = self.scores or [""]
        for metric in others:
            if self.scores[metric].keys() != self.scores[first].keys():
                raise ValueError(f"`scores` of `{first}` and `{metric}` are not of the same sets")
        for metric in self.scores:
            for name, (low, high) in self.intervals(metric).items():
                if low > high:
                    raise ValueError(f"`interval` of `{metric}` of {name} ends below its start")
        if not self.rtf.keys() <= self.values(first).keys():
            raise ValueError("`rtf` has sets that `scores` has not")

    def values(self, metric: str) -> PerSet:
        """A score of every set; none if that was not scored."""
        return {name: each.value for name, each in self.scores.get(metric, {}).items()}

    def intervals(self, metric: str) -> Intervals:
        """Its 95 % bootstrap interval, of the sets where it is known."""
        scores = self.scores.get(metric, {})
        return {n: each.interval for n, each in scores.items() if each.interval is not None}

    @property
    def wer(self) -> PerSet:
        """Word error rate in percent, per set."""
        return self.values("wer")

    @property
    def cer(self) -> PerSet:
        """Character error rate in percent, per set."""
        return self.values("cer")

    @property
    def wer_interval(self) -> Intervals:
        """95 % bootstrap interval of the WER, per set."""
        return self.intervals("wer")

    @property
    def cer_interval(self) -> Intervals:
        """95 % bootstrap interval of the CER, per set."""
        return self.intervals("cer")


@dataclass(frozen=True, kw_only=True)
class Measured(Scored):
    """An experiment folder's model.

    Attributes:
        params: all parameters of the model.
        size_mib: the checkpoint's parameters in MiB.
        macs_per_audio_second: multiply-accumulates for one second of audio.
    """

    params: Count
    size_mib: Amount
    macs_per_audio_second: Amount


@dataclass(frozen=True, kw_only=True)
class System(Measured):
    """An uncompressed model: the baseline, or a control with the rounds' extra epochs."""

    epochs: Count


@dataclass(frozen=True, kw_only=True)
class RoundResult(Measured):
    """One pass of search, factorise, retrain.

    A round that was rolled back has no scores and RTF: it was judged on dev data.

    Attributes:
        dev: the deciding score on dev data after retraining; `dev_limit` is what it may be.
        before_retraining: the deciding score, per set; may be empty.
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
    dev: Amount
    dev_limit: Amount
    before_retraining: PerSet
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
class Size:
    """One target of compression, and the rounds towards it.

    Attributes:
        target: the compression asked for; None: unknown (version 1).
        reached: whether the rounds came that far; None: unknown (version 1).
        control: the baseline with as many extra epochs as these rounds, if one was trained.
        final: None: no round was accepted.
    """

    target: Annotated[float, msgspec.Meta(gt=0)] | None
    reached: bool | None
    control: System | None
    rounds: list[RoundResult]
    final: Final | None

    def __post_init__(self) -> None:
        if self.final is not None and self.final.round not in {r.round for r in self.accepted}:
            raise ValueError("`final.round` is not an accepted round")

    @property
    def name(self) -> str:
        """What to call it: `5x`."""
        if self.target is not None:
            return f"{self.target:g}x"
        return "not compressed" if self.final is None else f"{self.final.compression:.2f}x"

    @property
    def accepted(self) -> list[RoundResult]:
        """The rounds that were not rolled back."""
        return [r for r in self.rounds if r.status == "accepted"]


@dataclass(frozen=True, kw_only=True)
class Variant(Scored):
    """A final model in another form: quantised, or exported to ONNX; of one or more of the sets.

    Attributes:
        name: the form and, if it is not the report's, the way of decoding.
        target: of the size whose final model it is.
        size_mib: its files on disk, in MiB.
        memory_mib: its weights in memory, in MiB.
    """

    name: str
    target: float | None
    size_mib: Amount
    memory_mib: Amount


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What was left out, and why: a parameter by all plans, or a form by the tables."""

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
    """The whole of results.json.

    Attributes:
        sizes: from the largest model to the smallest, each with another target.
        uncompressed: the parameters that were no candidates for compression.
        left_out: the forms of final models that have no row.
    """

    version: Literal[2] = VERSION
    metric: str
    seed: int
    corpus: str
    baseline: System
    sizes: Annotated[list[Size], msgspec.Meta(min_length=1)]
    variants: list[Variant] = field(default_factory=list)
    uncompressed: list[LeftOut]
    left_out: list[LeftOut] = field(default_factory=list)
    versions: Versions
    commands: list[str]

    def __post_init__(self) -> None:
        sets = self.baseline.values(self.metric).keys()
        if not sets:
            raise ValueError(f"`baseline` has no `{self.metric}` of any set")
        targets = {size.target for size in self.sizes}
        if len(targets) < len(self.sizes):
            raise ValueError("`sizes` has the same `target` twice")
        for key, other in self._scored():
            if other.values(self.metric).keys() != sets:
                raise ValueError(f"`{key}` and `baseline` are not of the same sets")
            if other.intervals(self.metric).keys() != sets:
                raise ValueError(f"`{key}` has no interval of `{self.metric}` of some set")
        for i, variant in enumerate(self.variants):
            if self.metric not in variant.scores or not variant.values(self.metric).keys() <= sets:
                raise ValueError(f"`variants[{i}]` has no scores, or sets that `baseline` has not")
            if variant.target not in targets:
                raise ValueError(f"`variants[{i}].target` is that of none of the sizes")

    def _scored(self) -> Iterator[tuple[str, Measured]]:
        """What must be scored on every set, and where it stands."""
        yield "baseline", self.baseline
        for i, size in enumerate(self.sizes):
            for key, other in (("control", size.control), ("final", size.final)):
                if other is not None:
                    yield f"sizes[{i}].{key}", other
            for j, each in enumerate(size.rounds):
                if each.status == "accepted":
                    yield f"sizes[{i}].rounds[{j}]", each

    @property
    def sets(self) -> list[str]:
        """Names of the sets that were scored."""
        return list(self.baseline.values(self.metric))

    @property
    def smallest(self) -> Size:
        """The size with the smallest model; the only one, if there is one."""
        return max(self.sizes, key=lambda s: s.final.compression if s.final else 0.0)

    @property
    def final(self) -> Final:
        """The smallest final model; the baseline, if no round of any size was accepted."""
        return self.final_of(self.smallest)

    @property
    def rounds(self) -> list[RoundResult]:
        """The rounds of the smallest size."""
        return self.smallest.rounds

    @property
    def control(self) -> System | None:
        """The control of the smallest size."""
        return self.smallest.control

    def final_of(self, size: Size) -> Final:
        """The model that is used at that size: the baseline, if none of its rounds was accepted."""
        before = self.baseline
        return size.final or Final(
            params=before.params, size_mib=before.size_mib, scores=before.scores, rtf=before.rtf,
            macs_per_audio_second=before.macs_per_audio_second, exp=before.exp, compression=1.0,
            round=0,
        )  # fmt: skip

    def better_baseline(
        self, name: str, size: Size | None = None
    ) -> Literal["baseline", "control"]:
        """Which uncompressed model has the lower score on the set `name`.

        Args:
            size: whose control; by default that of the smallest.
        """
        control = self.control if size is None else size.control
        before = self.baseline.values(self.metric)[name]
        if control is not None and control.values(self.metric)[name] < before:
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
        if not 1 <= version <= VERSION:
            raise ShrinkError(
                f"{path}: `version` is {version}, this espnet_shrink reads 1 to {VERSION}: "
                "use the espnet_shrink that wrote it"
            )
        document = msgspec.json.decode(content)
        return msgspec.convert(upgraded(document) if version == 1 else document, Results)
    except msgspec.ValidationError as error:
        raise ShrinkError(f"{path}: {error}: not a valid results file") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShrinkError(f"{path}: not JSON: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise ShrinkError(f"results cannot hold {value!r}, a {type(value).__name__}")
