"""The searchers, one file each, all called the same way.

A searcher proposes plans to an Evaluator, batch by batch, until it has no more or the Evaluator
ends it. The same settings lead to the same proposals.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from espnet_shrink.search.evaluate import Evaluator
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.settings import SearchSettings

Searcher = Callable[[Problem, Evaluator, SearchSettings], None]


def searcher_of(name: str) -> Searcher:
    """The function `search` of the file called `name`, one of settings.SEARCHERS.

    Raises:
        ShrinkError: it needs a package that is not installed.
    """
    searcher: Searcher = importlib.import_module(f"{__name__}.{name}").search
    return searcher
