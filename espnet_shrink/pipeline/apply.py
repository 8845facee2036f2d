"""A plan put into a model, without a search and without retraining."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
import yaml

from espnet_shrink.compat.hooks import adapter_config
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.files import (
    claim_folder,
    lock_folder,
    read_yaml,
    write_text,
)
from espnet_shrink.data.features import extract
from espnet_shrink.methods.adapter import adapter_conf
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.methods.lowrank.decompositions import decompose_sites
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives.score import Score, Scorer
from espnet_shrink.plan import Plan, dense_plan
from espnet_shrink.training.espnet2 import leave_untrained

RECORD = "applied.yaml"  # written last


@dataclass(frozen=True)
class Applied:
    """A model after `apply_plan`.

    Attributes:
        params_before, params: of the uncompressed model and of the factorised one.
        factorised: number of sites that are.
        before, after: errors of both on the data, if there was any.
    """

    params_before: int
    params: int
    factorised: int
    before: Score | None
    after: Score | None


def complete(plan: Plan, loaded: LoadedModel) -> Plan:
    """`plan` with every site of a model that it does not name, dense.

    Raises:
        ShrinkError: it names what is no site, or a rank that the site cannot have.
    """
    sites = survey(loaded.model).sites
    whole = Plan({**dense_plan(sites).amounts, **plan.amounts})
    whole.check(sites)
    return whole


def apply_plan(loaded: LoadedModel, plan: Plan, data: Path | None, out: Path) -> Applied:
    """Factorise an uncompressed model by `plan` into the experiment folder `out`.

    Args:
        plan: of all or of some sites; the others stay dense.
        data: Kaldi-style folder. The SVDs are whitened by the inputs that the sites meet on it,
            and the model is decoded greedily on it before and after; None: plain SVDs.

    Raises:
        ShrinkError: a plan that does not fit the model, bad data, or `out` holds another model.
    """
    plan, record = complete(plan, loaded), out / RECORD
    base_hash = loaded.hash
    made: _Made | None = None
    if not record.exists():  # all that can be refused comes before the folder is claimed
        made = _factorised(loaded, plan, data)
    with lock_folder(out):
        claim_folder(out, {"plan": plan.hash, "base_hash": base_hash, "data": data and str(data)})
        if made is not None:
            plan.save(out / "plan.yaml", base_hash=base_hash)
            leave_untrained(
                loaded.described, made.state, out,
                adapter_config(adapter_conf(plan, base_hash)),
            )  # fmt: skip
            write_text(record, yaml.safe_dump(dataclasses.asdict(made.applied), sort_keys=False))
        return msgspec.convert(read_yaml(record), Applied)


@dataclass(frozen=True)
class _Made:
    state: dict[str, torch.Tensor]
    applied: Applied


def _factorised(loaded: LoadedModel, plan: Plan, data: Path | None) -> _Made:
    small, before, after = loaded.copy(), None, None
    if data is None:
        sites = survey(loaded.model).sites
        decompose_sites(dict(loaded.model.named_parameters()), sites, None).put(small.model, plan)
    else:
        features = extract(loaded, data)
        before = Scorer(loaded, features).score()
        analyse(loaded, features, "whitened").compressor.put(small.model, plan)
        after = Scorer(small, features).score()
    applied = Applied(loaded.params, small.params, len(plan.factored), before, after)
    return _Made(small.model.state_dict(), applied)
