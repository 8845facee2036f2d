"""What decides a run of rounds, held against what its folder holds before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.core.files import MADE_WITH, check_folder
from espnet_shrink.data.digest import config_digest, content_of
from espnet_shrink.pipeline.opening import made_with
from espnet_shrink.pipeline.search import check_search
from espnet_shrink.pipeline.subject import Subject
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.training.retraining import Retraining
from espnet_shrink.training.rounds_settings import RoundsSettings


def keys_of(retraining: Retraining | None) -> Callable[[], Mapping[str, Any]]:
    """The keys of a training config that name the data of a retraining, if there is one."""
    return dict if retraining is None else retraining.keys


def checked_record(
    subject: Subject,
    out: Path,
    settings: RoundsSettings,
    space: SearchSpace,
    retraining: Retraining | None,
) -> dict[str, Any]:
    """What decides the rounds, as far as it is known before there is a proxy set.

    Refuses rounds that can be known to fail before anything is computed.

    Args: as `run_rounds`; `retraining` None: nothing is retrained.

    Raises:
        ShrinkError: the space cannot reach the target, too few evaluations, `out` holds rounds
            with other settings, or no data folder.
    """
    baseline = subject.loaded
    record = {
        **dataclasses.asdict(settings),
        "search": dataclasses.asdict(subject.search),
        "space": space.document,
        "trainer": "none" if retraining is None else retraining.trainer,
        "training_data_content": None if retraining is None else retraining.content,
        "training_config_content": config_digest(baseline.described),
        "base_hash": baseline.hash,
        **baseline.asked,
        "data_content": content_of(subject.dev.folder, out, "data_content"),
        MADE_WITH: made_with(),
    }
    check_search(subject, space, int(baseline.params / settings.target))
    check_folder(out, record, partly=True)
    return record
