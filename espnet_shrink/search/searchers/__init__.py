"""The searchers, one file each, all called the same way.

A searcher proposes plans to an Evaluator, batch by batch, until it has no more or the Evaluator
ends it. The same settings lead to the same proposals.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable

from espnet_shrink.errors import ShrinkError
from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.scan import scan_evaluations
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace

Searcher = Callable[[Problem, Evaluator, SearchSettings], None]


SCAN_SHARE = 0.3  # of the evaluations, where a limit on single sites wants a scan of them


def check_evaluations(settings: SearchSettings, space: SearchSpace) -> None:
    """Refuse a number of evaluations with which the searcher cannot do what it is for.

    Raises:
        ShrinkError: too few evaluations, with the number needed, or a package is not installed.
    """
    module = importlib.import_module(f"{__name__}.{settings.searcher}")
    if hasattr(module, "optuna"):
        module.optuna()
    least = getattr(module, "least_evaluations", lambda settings, sites: 1)
    needed = searching = least(settings, space.free)
    why = f"of {settings.searcher}"
    if settings.searcher == "reinforce":
        why += f" with {settings.rollouts} rollouts"
    if settings.site_limit < math.inf:
        scanning = scan_evaluations(space.free)
        needed = max(math.ceil(scanning / SCAN_SHARE), math.ceil(searching / (1 - SCAN_SHARE)))
        why += f" after a scan, which site_limit wants {SCAN_SHARE:.0%} of them for"
    if settings.evaluations < needed:
        raise ShrinkError(
            f"{settings.evaluations} evaluations are too few for a search {why}, with "
            f"{space.free} sites to factorise: set evaluations to at least {needed}"
        )


def looks_at_loss(settings: SearchSettings) -> bool:
    """Whether the searcher needs the model's loss."""
    module = importlib.import_module(f"{__name__}.{settings.searcher}")
    return getattr(module, "LOOKS_AT_LOSS", False)


def searcher_of(name: str) -> Searcher:
    """The function `search` of the file called `name`, one of settings.SEARCHERS.

    Raises:
        ShrinkError: it needs a package that is not installed.
    """
    searcher: Searcher = importlib.import_module(f"{__name__}.{name}").search
    return searcher
