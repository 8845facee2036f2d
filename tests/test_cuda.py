"""Layers on a GPU against torch's own there; each case on the CPU too, where there is no GPU."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from espnet_shrink.layers import (
    LowRankGRU,
    LowRankLinear,
    LowRankLSTM,
    LowRankLSTMCell,
)

IN, HIDDEN, BATCH, STEPS = 20, 24, 3, 11
RANKS = {"weight_ih_l0": 5, "weight_hh_l0": 4, "weight_hh_l1_reverse": 6}


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
        ),
    ]
)
def device(request):
    torch.manual_seed(0)
    return request.param


def sequences(device, packed):
    x = torch.randn(STEPS, BATCH, IN, device=device)
    if not packed:
        return x
    return pack_padded_sequence(x, torch.tensor([STEPS, 7, 2]))


def data_of(output):
    return output.data if isinstance(output, PackedSequence) else output


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kinds", [(nn.LSTM, LowRankLSTM), (nn.GRU, LowRankGRU)])
@pytest.mark.parametrize("training", [False, True])
def test_recurrent_layers(device, packed, kinds, training):
    dense_kind, low_rank_kind = kinds
    whole = dense_kind(IN, HIDDEN, 2, bidirectional=True).to(device)
    small = low_rank_kind.from_dense(whole, RANKS)
    assert {p.device.type for p in small.parameters()} == {device}
    dense = small.to_dense()
    assert type(dense) is dense_kind
    given = sequences(device, packed)
    with torch.set_grad_enabled(training):
        wanted, found = dense(given)[0], small(given)[0]
    torch.testing.assert_close(data_of(found), data_of(wanted), rtol=1e-4, atol=1e-5)
    if training:
        for output in (wanted, found):
            data_of(output).square().sum().backward()
        u, v = small.weight_hh_l0_U, small.weight_hh_l0_V
        torch.testing.assert_close(u.grad, dense.weight_hh_l0.grad @ v.T, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(v.grad, u.T @ dense.weight_hh_l0.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_linear_layers_and_cells(device, training):
    linear, cell = nn.Linear(IN, HIDDEN).to(device), nn.LSTMCell(IN, HIDDEN).to(device)
    low_linear = LowRankLinear.from_dense(linear, 5)
    low_cell = LowRankLSTMCell.from_dense(cell, {"weight_ih": 5, "weight_hh": 4})
    x = torch.randn(BATCH, IN, device=device)
    with torch.set_grad_enabled(training):
        found, (h, c) = low_linear(x), low_cell(x)
        wanted, states = low_linear.to_dense()(x), low_cell.to_dense()(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((h, c), states, rtol=1e-4, atol=1e-5)
    assert found.device.type == h.device.type == device
