"""What a finished round, and all rounds together, leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from espnet_shrink.data.metric import Metric
from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan.cost import Cost

Record = TypeVar("Record")


@dataclass(frozen=True)
class Round:
    """One finished round, as in its round.yaml; error rates are greedy, on dev, in percent.

    Attributes:
        dev: `proxy.score.Score`; `dev_wer_limit` is that of its `metric`, whichever it is.
    """

    round: int
    status: str  # "accepted" or "rolled_back"
    target_compression: float
    compression: float
    params: int
    size_mib: float
    macs_per_audio_second: float
    searcher: str
    search_evaluations: int
    epochs: int
    dev_before_retraining: dict[str, Any]
    dev: dict[str, Any]
    dev_wer_limit: float
    ranks: dict[str, int | str]


@dataclass(frozen=True)
class Outcome:
    """All rounds, and the last accepted one (None: no round was).

    Attributes:
        metric: the error rate that has decided.
    """

    baseline: Cost
    rounds: list[Round]
    final: Round | None
    reached_target: bool
    metric: Metric = "wer"


def read_record(cls: type[Record], document: Any, path: Path) -> Record:
    """A record that an earlier run wrote.

    Raises:
        ShrinkError: it lacks keys, or has others.
    """
    try:
        return cls(**document)
    except TypeError as error:
        raise ShrinkError(
            f"{path} is damaged, or of another version of espnet_shrink: choose another folder, or "
            "delete this one"
        ) from error
