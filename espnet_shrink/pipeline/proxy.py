"""The proxy set: the few utterances on which plans are scored."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.files import (
    MADE_WITH,
    check_folder,
    claim_folder,
    lock_folder,
    read_yaml,
    write_text,
)
from espnet_shrink.data.digest import content_of, data_digest
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.data.kaldi import write_folder
from espnet_shrink.data.select import check_selection, expected_order, select
from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.objectives.score import Score, Scorer, mean_score
from espnet_shrink.pipeline.opening import made_with
from espnet_shrink.pipeline.subject import Subject
from espnet_shrink.plan import LOWRANK
from espnet_shrink.search.pool import find_candidates
from espnet_shrink.search.settings import SearchSettings

# A proxy set is chosen from so many utterances; of a larger dev set they are taken at random.
CANDIDATES = 1000


@dataclass(frozen=True)
class ProxySet:
    """A proxy folder as `make_proxy` leaves it.

    Attributes:
        score, data_score: of the uncompressed model, on the proxy set and on all data.
        kendall_tau: expected between plans' errors on the proxy set and on all data.
        made: now, and not before.
    """

    folder: Path
    size: int
    score: Score
    data_score: Score
    kendall_tau: float
    made: bool


def make_proxy(
    loaded: LoadedModel,
    data: str | Path,
    out: Path,
    size: int,
    method: str,
    seed: int,
    compression: str = LOWRANK,
) -> ProxySet:
    """Choose `size` utterances of `data` and write them to `out` as a Kaldi-style folder.

    Args:
        method: of choosing, as `data.select.select` takes it.
        compression: the method of compression whose plans utterances are to tell apart.

    Raises:
        ShrinkError: bad data, method or size, or `out` was made with other settings.
    """
    subject = Subject(Heard(loaded, Path(data)), out, SearchSettings(method=compression))
    return choose_proxy(subject, size, method, seed)


def choose_proxy(subject: Subject, size: int, method: str, seed: int) -> ProxySet:
    """As `make_proxy`, for a model that is searched afterwards: its dev set is heard once."""
    loaded, out = subject.loaded, subject.proxy_folder
    record = {
        "data_content": content_of(subject.dev.folder, out, "data_content"), "size": size,
        "method": method, "seed": seed, "base_hash": loaded.hash,
        **loaded.asked,
        MADE_WITH: made_with(),
    }  # fmt: skip
    check_folder(out, record)
    made = not (out / "proxy.yaml").exists()
    if made:  # all that can be refused comes before the folder is claimed
        features = subject.dev.features
        check_selection(method, len(features.utterances), size, seed)
    with lock_folder(out):
        claim_folder(out, record)
        if made:
            decoded = subject.dev.decoded
            some = _at_most(features, max(CANDIDATES, size), seed)
            candidates = find_candidates(loaded, some, seed, subject.search.method)
            chosen = [some.utterances[i] for i in select(method, candidates, size, seed)]
            write_folder(out, chosen)
            proxy = features.subset({u.name for u in chosen})
            facts: dict[str, Any] = {
                "proxy": dataclasses.asdict(Scorer(loaded, proxy).score()),
                "data": dataclasses.asdict(mean_score(decoded.texts, features)),
                "kendall_tau": expected_order(method, candidates, size, seed),
                "content": data_digest(out),
            }
            write_text(out / "proxy.yaml", yaml.safe_dump(facts, sort_keys=False))
        facts = read_yaml(out / "proxy.yaml")
        if data_digest(out, str(facts.get("content", ""))) != facts.get("content"):
            raise ShrinkError(
                f"the proxy set {out} was edited after it was chosen, so what was measured on it "
                "no longer holds: delete it to choose anew, or search with it as it is (--proxy) "
                "in another folder"
            )
    return ProxySet(
        out, size, Score(**facts["proxy"]), Score(**facts["data"]), facts["kendall_tau"], made
    )


def _at_most(features: FeatureSet, count: int, seed: int) -> FeatureSet:
    """All utterances, or `count` of them at random."""
    names = [u.name for u in features.utterances]
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return features.subset({names[i] for i in chosen})
