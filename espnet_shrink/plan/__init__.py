"""What may be decided of a model, and what was: plain data."""

from espnet_shrink.plan.plan import (
    DENSE,
    Plan,
    Rank,
    Site,
    dense_plan,
    plan_params,
)

__all__ = ["DENSE", "Plan", "Rank", "Site", "dense_plan", "plan_params"]
