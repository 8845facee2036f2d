"""The last choice: the best plans of a search, scored again on more data.

A search that has scored hundreds of plans on a small set has, at the top, some that were lucky
there. A second look, on all of dev, tells them from those that are good.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from espnet_shrink.core.files import write_text
from espnet_shrink.objectives.score import Score
from espnet_shrink.plan import Plan
from espnet_shrink.search.trial import SearchResult, Trial

COLUMNS = ["plan", "source", "params", "errors_proxy", "wer", "cer", "errors"]


def finalists(result: SearchResult, count: int) -> list[Trial]:
    """The `count` best trials within the budget, the best first."""
    return result.ranking[:count]


def choose(
    result: SearchResult,
    count: int,
    scorer: Callable[[Plan], Score],
    out: Path,
    quiet: bool = False,
) -> tuple[Trial, Score]:
    """The finalist with the fewest errors on the larger set, and its score there.

    Writes `out`/finalists.csv. Of equals, the one with fewer errors on the proxy set.

    Args:
        count: of finalists, at least 1.
        scorer: scores a plan on the larger set.

    Raises:
        ShrinkError: the search found no plan within the budget.
    """
    chosen = finalists(result, count)
    scores = [scorer(t.plan) for t in tqdm(chosen, "finalists on dev", unit="plan", disable=quiet)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for t, score in zip(chosen, scores, strict=True):
        writer.writerow(
            [t.plan.hash, t.source, t.params, t.score.errors, score.wer, score.cer, score.errors]
        )
    write_text(out / "finalists.csv", text.getvalue())
    return min(zip(chosen, scores, strict=True), key=lambda pair: pair[1].errors)
