"""The kinds of layers that have a low-rank twin, and of the matrices in them: one row each."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from espnet_shrink.layers import (
    LowRankConv,
    LowRankEmbedding,
    LowRankGRU,
    LowRankGRUCell,
    LowRankLinear,
    LowRankLSTM,
    LowRankLSTMCell,
    is_plain_embedding,
    is_pointwise,
)


class SiteKind(enum.StrEnum):
    """What a matrix is for."""

    LINEAR = "linear"
    POINTWISE_CONV = "pointwise_conv"
    EMBEDDING = "embedding"
    LSTM_INPUT = "lstm_input"
    LSTM_RECURRENT = "lstm_recurrent"
    GRU_INPUT = "gru_input"
    GRU_RECURRENT = "gru_recurrent"
    CELL_INPUT = "cell_input"  # of an LSTM cell
    CELL_RECURRENT = "cell_recurrent"
    GRU_CELL_INPUT = "gru_cell_input"
    GRU_CELL_RECURRENT = "gru_cell_recurrent"


class Form(enum.Enum):
    """How a layer is called: which decides how it is watched and timed."""

    ROWS = enum.auto()  # (..., in)
    CHANNELS = enum.auto()  # (1, in, rows)
    TABLE = enum.auto()  # looked up: takes no time
    SEQUENCE = enum.auto()  # a recurrence over frames
    CELL = enum.auto()  # one step of a recurrence


@dataclass(frozen=True)
class LayerKind:
    """One kind of layer.

    Attributes:
        dense, twin: the library's class, and ours.
        matrices: a weight's name in it, without the number of its layer -> what that is for.
        gates: of a recurrent layer: blocks of its output; else 1.
        in_modules: U and V are modules in the twin, elsewhere parameters.
        fits: whether a layer of the class is a plain one.
    """

    dense: type[nn.Module]
    twin: Any
    form: Form
    matrices: Mapping[str, SiteKind]
    gates: int = 1
    in_modules: bool = False
    fits: Callable[[Any], bool] = lambda module: True


def _recurrent(
    dense: type[nn.Module], twin: Any, form: Form, gates: int, inputs: SiteKind, states: SiteKind
) -> LayerKind:
    return LayerKind(
        dense, twin, form, {"weight_ih": inputs, "weight_hh": states}, gates,
        fits=lambda module: not getattr(module, "proj_size", 0),
    )  # fmt: skip


_CONV: Mapping[str, SiteKind] = {"weight": SiteKind.POINTWISE_CONV}

KINDS = [
    LayerKind(nn.Linear, LowRankLinear, Form.ROWS, {"weight": SiteKind.LINEAR}, in_modules=True),
    LayerKind(nn.Conv1d, LowRankConv, Form.CHANNELS, _CONV, in_modules=True, fits=is_pointwise),
    LayerKind(nn.Conv2d, LowRankConv, Form.CHANNELS, _CONV, in_modules=True, fits=is_pointwise),
    LayerKind(nn.Embedding, LowRankEmbedding, Form.TABLE, {"weight": SiteKind.EMBEDDING},
              fits=is_plain_embedding),
    _recurrent(nn.LSTM, LowRankLSTM, Form.SEQUENCE, 4,
               SiteKind.LSTM_INPUT, SiteKind.LSTM_RECURRENT),
    _recurrent(nn.GRU, LowRankGRU, Form.SEQUENCE, 3, SiteKind.GRU_INPUT, SiteKind.GRU_RECURRENT),
    _recurrent(nn.LSTMCell, LowRankLSTMCell, Form.CELL, 4,
               SiteKind.CELL_INPUT, SiteKind.CELL_RECURRENT),
    _recurrent(nn.GRUCell, LowRankGRUCell, Form.CELL, 3,
               SiteKind.GRU_CELL_INPUT, SiteKind.GRU_CELL_RECURRENT),
]  # fmt: skip

# Further classes whose calls are counted: none of their matrices can be factorised.
UNTWINNED: list[tuple[type[nn.Module], Form]] = [
    (nn.RNN, Form.SEQUENCE), (nn.modules.conv._ConvNd, Form.CHANNELS),
]  # fmt: skip

# Subclasses of torch.nn.Linear that only cast; by name, as their packages may not be there.
PLAIN_LINEARS = {"whisper.model.Linear"}

IN_MODULES: tuple[Any, ...] = tuple({k.twin for k in KINDS if k.in_modules})
IN_PARAMETERS: tuple[Any, ...] = tuple({k.twin for k in KINDS if not k.in_modules})


def layer_kind(module: nn.Module) -> LayerKind | None:
    """The row of a dense layer; None: it has no twin, or is not a plain one."""
    # Exact types: a subclass may use its weight in ways of its own.
    exact = type(module)
    if f"{exact.__module__}.{exact.__qualname__}" in PLAIN_LINEARS:
        exact = nn.Linear
    return next((k for k in KINDS if k.dense is exact and k.fits(module)), None)


def form_of(module: nn.Module) -> Form | None:
    """How a dense layer is called, with a twin or without; None: it has no matrix, or is ours."""
    if is_low_rank(module):
        return None
    known = [(k.dense, k.form) for k in KINDS] + UNTWINNED
    return next((form for dense, form in known if isinstance(module, dense)), None)


def kind_of_site(kind: str) -> LayerKind:
    """A row that has matrices of that kind."""
    return next(k for k in KINDS if kind in k.matrices.values())


def matrices(module: nn.Module) -> dict[str, SiteKind]:
    """What every matrix of `module` that can be factorised is for, by its name there."""
    kind = layer_kind(module)
    if kind is None:
        return {}
    names = [name for name, _ in module.named_parameters(recurse=False)]
    return {
        name: what
        for name in names
        for own, what in kind.matrices.items()
        if name == own or name.startswith(f"{own}_l")  # weight_ih_l0, weight_ih_l0_reverse, ...
    }


def is_low_rank(module: nn.Module) -> bool:
    """Whether `module` is one of ours."""
    return isinstance(module, IN_MODULES + IN_PARAMETERS)


def recurs(kind: str) -> bool:
    """Whether the rows of a matrix of that kind go through it one after the other."""
    layer = kind_of_site(kind)
    return layer.form is Form.SEQUENCE and layer.matrices["weight_hh"] == kind
