"""What may be decided of a model, what was, and what it costs: plain data."""

from espnet_shrink.plan.budget import Budget
from espnet_shrink.plan.cost import Cost, CostModel
from espnet_shrink.plan.decision import (
    DENSE,
    Amount,
    Decision,
    Survey,
    Uncompressed,
    Why,
    describe,
)
from espnet_shrink.plan.plan import LOWRANK, Plan, Step, dense_plan, plan_params

__all__ = [
    "DENSE", "LOWRANK", "Amount", "Budget", "Cost", "CostModel", "Decision", "Plan", "Step",
    "Survey", "Uncompressed", "Why", "dense_plan", "describe", "plan_params",
]  # fmt: skip
