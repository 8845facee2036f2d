"""A compression method for tests: linear layers keep their first columns. One file, one entry."""

from dataclasses import dataclass, field

import torch
from torch import nn

from espnet_shrink.errors import ShrinkError
from espnet_shrink.plan import DENSE, CostModel, Survey, Uncompressed, Why


@dataclass(frozen=True)
class Columns:
    """The columns of one linear layer's weight."""

    name: str
    shape: tuple[int, int]
    kind: str = "linear"
    unit: str = "columns"

    @property
    def params(self):
        return self.shape[0] * self.shape[1]

    @property
    def full(self):
        return self.shape[1]

    @property
    def largest_useful(self):
        return self.shape[1] - 1

    @property
    def price(self):
        return self.shape[0]

    def allows(self, amount):
        return amount == DENSE or isinstance(amount, int) and 1 <= amount < self.shape[1]

    def params_at(self, amount):
        return self.params if amount == DENSE else amount * self.shape[0]


class FirstColumns(nn.Module):
    """A linear layer that looks at its first inputs only."""

    def __init__(self, linear, columns):
        super().__init__()
        self.columns, self.width = columns, linear.in_features
        self.weight = nn.Parameter(linear.weight.detach()[:, :columns].clone())
        self.bias = linear.bias

    def forward(self, x):
        return nn.functional.linear(x[..., : self.columns], self.weight, self.bias)


def replace(model, name, module):
    parent, _, own = name.removesuffix(".weight").rpartition(".")
    setattr(model.get_submodule(parent), own, module)


class Compressor:
    """Needs nothing but the model."""

    def planner(self, views):
        return Planner(views)

    def put(self, model, plan):
        for name, columns in plan.factored.items():
            linear = model.get_submodule(name.removesuffix(".weight"))
            replace(model, name, FirstColumns(linear, columns))


class Planner:
    def __init__(self, views):
        self.views = views
        self.linears = [
            {f"{n}.weight": m for n, m in view.named_modules() if type(m) is nn.Linear}
            for view in views
        ]

    def apply(self, plan):
        for view, linears in zip(self.views, self.linears, strict=True):
            for name, linear in linears.items():
                columns = plan.amounts.get(name, DENSE)
                replace(view, name, linear if columns == DENSE else FirstColumns(linear, columns))


@dataclass(frozen=True)
class Prepared:
    survey: Survey
    cost_model: CostModel
    energies: dict
    compressor: Compressor
    loss_changes: dict = field(default_factory=dict)  # judges none


class Toy:
    """Fills methods.base.Method."""

    name = "toy"

    def survey(self, model):
        linears = {f"{n}.weight" for n, m in model.named_modules() if type(m) is nn.Linear}
        sites, rest = [], []
        for name, parameter in model.named_parameters():
            if name in linears:
                sites.append(Columns(name, tuple(parameter.shape)))
            else:
                shape = tuple(parameter.shape)
                why = Why.VECTOR if len(shape) < 2 else Why.NO_LAYER
                rest.append(Uncompressed(name, parameter.numel(), "not linear", shape, why))
        return Survey(sites, rest)

    def prepare(self, loaded, data, heard, settings):
        found, parameters = self.survey(loaded.model), dict(loaded.model.named_parameters())
        energies = {
            s.name: parameters[s.name].detach().square().sum(0).sort(descending=True)[0].numpy()
            for s in found.sites
        }
        numels = {name: p.numel() for name, p in parameters.items()}
        return Prepared(found, CostModel(found.sites, numels, {}), energies, Compressor())

    def predictor(self, loaded, prices, data):
        raise ShrinkError("the toy predicts no times: leave out rtf")

    def build(self, model, plan):
        plan.check(self.survey(model).sites)
        Compressor().put(model, plan)

    def settle(self, model):
        for name, module in list(model.named_modules()):
            if isinstance(module, FirstColumns):
                linear = nn.Linear(module.width, len(module.weight), module.bias is not None)
                with torch.no_grad():
                    linear.weight.zero_()[:, : module.columns] = module.weight
                    if module.bias is not None:
                        linear.bias.copy_(module.bias)
                replace(model, f"{name}.weight", linear)
