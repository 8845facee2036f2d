"""results.json of version 1, which knew one size, WER and CER, as a document of version 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

RENAMED = {
    "dev_wer": "dev", "dev_wer_limit": "dev_limit", "wer_before_retraining": "before_retraining",
}  # fmt: skip
OF_THE_SIZE = ("control", "rounds", "final")


def upgraded(old: Mapping[str, Any]) -> dict[str, Any]:
    """What version 1 says in the keys of version 2.

    What is missing or of the wrong type stays so, for the schema of version 2 to refuse.
    """
    metric = old.get("metric", "wer")
    metrics = ("cer",) if metric == "cer" else ("wer", "cer")

    def system(value: Any) -> Any:
        return _system(value, metrics) if isinstance(value, dict) else value

    def variant(value: Any) -> Any:
        return {**system(value), "target": None} if isinstance(value, dict) else value

    new = {key: value for key, value in old.items() if key not in OF_THE_SIZE}
    size = {key: old[key] for key in OF_THE_SIZE if key in old}
    _change(new, "baseline", system)
    _change(new, "variants", lambda found: _each(found, variant))
    _change(size, "control", system)
    _change(size, "rounds", lambda found: _each(found, system))
    # Round 0 was the baseline, for want of an accepted round.
    _change(size, "final", lambda f: None if _is_round_0(f) else system(f))
    return {
        **new, "version": 2, "metric": metric, "sizes": [{"target": None, "reached": None, **size}],
    }  # fmt: skip


def scores_of(
    flat: Mapping[str, Any], metrics: Sequence[str], sets: Sequence[str] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """`scores` of version 2 from the keys `wer`, `wer_interval` and so on, each by set.

    Args:
        sets: those to take; None: all.
    """
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for metric in metrics:
        values, intervals = flat.get(metric), flat.get(f"{metric}_interval", {})
        if isinstance(values, dict) and isinstance(intervals, dict):
            taken = [name for name in values if sets is None or name in sets]
            scores[metric] = {
                name: {"value": values[name], "interval": intervals.get(name)} for name in taken
            }
    return scores


def _system(flat: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    gone = [key for metric in ("wer", "cer") for key in (metric, f"{metric}_interval")]
    kept = {RENAMED.get(key, key): value for key, value in flat.items() if key not in gone}
    return {**kept, "scores": scores_of(flat, metrics)}


def _change(document: dict[str, Any], key: str, convert: Callable[[Any], Any]) -> None:
    if key in document:
        document[key] = convert(document[key])


def _each(found: Any, convert: Callable[[Any], Any]) -> Any:
    return [convert(each) for each in found] if isinstance(found, list) else found


def _is_round_0(final: Any) -> bool:
    return isinstance(final, dict) and final.get("round") == 0
