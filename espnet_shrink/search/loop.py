"""Run a searcher until its evaluations are spent, or it has no more to propose."""

from __future__ import annotations

import math
from pathlib import Path

from tqdm import tqdm

from espnet_shrink.search.evaluate import Evaluator, ScoreAll, Spent
from espnet_shrink.search.narrow import narrowed, share_left
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers import (
    SCAN_SHARE,
    Searcher,
    check_evaluations,
    searcher_of,
)
from espnet_shrink.search.searchers.scan import scan
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.trial import SearchResult


def run_search(
    problem: Problem,
    score_all: ScoreAll,
    settings: SearchSettings,
    out: Path,
    quiet: bool = False,
    search: Searcher | None = None,
) -> SearchResult:
    """Let `settings.searcher`, or a `search` of your own, score `settings.evaluations` plans.

    Writes out/log.csv and TensorBoard events every few plans, and resumes from the
    log. A plan that comes up again is not scored again, so a searcher that has settled may end
    early. A searcher of your own must propose the same plans for the same settings and scores.

    Raises:
        ShrinkError: too few evaluations, a package that is not installed, or a damaged log.
    """
    if search is None:
        check_evaluations(settings, problem.space)
        search = searcher_of(settings.searcher)
    with tqdm(
        total=settings.evaluations, desc="rank search", unit="plan", disable=quiet, mininterval=1.0
    ) as bar:
        evaluate = Evaluator(problem, score_all, settings.evaluations, out, bar)
        try:
            search(_narrowed(problem, evaluate, settings), evaluate, settings)
        except Spent:
            pass
        finally:
            evaluate.close()
    return evaluate.result


def _narrowed(problem: Problem, evaluate: Evaluator, settings: SearchSettings) -> Problem:
    """The problem within the limit of what a site alone may lose, if there is one."""
    if settings.site_limit == math.inf:
        return problem
    found = scan(problem, evaluate, int(SCAN_SHARE * settings.evaluations), "scan")
    smaller = narrowed(problem, found, settings.site_limit)
    tqdm.write(f"scan: {share_left(problem, smaller):.0%} of the sites' ranks are left to search")
    return smaller
