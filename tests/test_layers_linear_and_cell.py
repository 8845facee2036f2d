"""LowRankLinear and LowRankLSTMCell against torch's dense modules."""

import copy

import pytest
import torch
from torch import nn

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers import LowRankLinear, LowRankLSTMCell, balanced_svd

IN, OUT, H = 7, 9, 6


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_svd_factors_are_balanced_and_the_best_of_their_rank():
    torch.manual_seed(0)
    weight = torch.randn(OUT, IN)
    singular = torch.linalg.svdvals(weight)
    u, v = balanced_svd(weight, 3)
    close(u.T @ u, torch.diag(singular[:3]))
    close(v @ v.T, torch.diag(singular[:3]))
    close((weight - u @ v).norm(), singular[3:].norm())


@pytest.mark.parametrize("bias", [True, False])
def test_linear_at_full_rank_is_the_dense_layer(bias):
    torch.manual_seed(1)
    dense = nn.Linear(IN, OUT, bias)
    low = LowRankLinear.from_dense(dense, IN)
    x = torch.randn(2, 3, IN)
    close(low(x), dense(x))
    close(dict(low.to_dense().state_dict()), dict(dense.state_dict()))
    assert (low.in_features, low.out_features, low.rank) == (IN, OUT, IN)
    assert (low.bias is None) == (not bias)


def test_linear_equals_the_product_of_its_factors():
    torch.manual_seed(2)
    low = LowRankLinear(IN, OUT, 3)
    dense = low.to_dense()
    x, y = (torch.randn(4, IN).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    low(x).sin().sum().backward()
    dense(y).sin().sum().backward()
    close(low(x), dense(x))
    close(x.grad, y.grad)
    close(low.U.weight.grad, dense.weight.grad @ low.V.weight.T)
    close(low.V.weight.grad, low.U.weight.T @ dense.weight.grad)
    close(low.U.bias.grad, dense.bias.grad)
    close(low.weight, dense.weight)


def test_linear_state_dict_names():
    shapes = {k: tuple(p.shape) for k, p in LowRankLinear(IN, OUT, 3).state_dict().items()}
    assert shapes == {"V.weight": (3, IN), "U.weight": (OUT, 3), "U.bias": (OUT,)}


@pytest.mark.parametrize("rank", [0, IN + 1])
def test_linear_rank_out_of_range_is_an_error(rank):
    with pytest.raises(ShrinkError, match=f"weight: rank {rank} of a 9 x 7 matrix"):
        LowRankLinear(IN, OUT, rank)
    with pytest.raises(ShrinkError, match=f"weight: rank {rank}"):
        LowRankLinear.from_dense(nn.Linear(IN, OUT), rank)


def test_linear_takes_given_factors_dtype_and_mode():
    dense = nn.Linear(IN, OUT).to(torch.bfloat16).eval()
    u, v = torch.randn(OUT, 2), torch.randn(2, IN)
    low = LowRankLinear.from_dense(dense, 2, (u, v))
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16} and not low.U.training
    close(low.U.weight, u.bfloat16(), 0)
    with pytest.raises(ShrinkError, match="factors have shapes"):
        LowRankLinear.from_dense(dense, 3, (u, v))


def test_linear_is_quantised_dynamically_like_any_other():
    torch.manual_seed(3)
    low = LowRankLinear(32, 24, 8).eval()
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(low), {nn.Linear})
    for part in (quantised.U, quantised.V):
        assert type(part) is torch.ao.nn.quantized.dynamic.Linear
    x = torch.randn(5, 32)
    expected = low(x)
    assert (quantised(x) - expected).abs().max() < 0.05 * expected.abs().max()
    assert (quantised.in_features, quantised.out_features, quantised.rank) == (32, 24, 8)


CELL_RANKS = [{}, {"weight_ih": 2}, {"weight_hh": 3}, {"weight_ih": 2, "weight_hh": 3}]


def cell_step(cell, x, hx):
    cell.zero_grad()
    x.grad = None
    h, c = cell(x, hx)
    (h.sin().sum() + 2 * cell(x, (h, c))[1].cos().sum()).backward()
    return (h, c), x.grad.clone(), {n: p.grad.clone() for n, p in cell.named_parameters()}


@pytest.mark.parametrize("ranks", CELL_RANKS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), ()])
@pytest.mark.parametrize("with_hx", [True, False])
def test_cell_equals_the_product_of_its_factors(ranks, bias, shape, with_hx):
    torch.manual_seed(4)
    cell = LowRankLSTMCell(IN, H, bias, ranks)
    dense = cell.to_dense()
    x = torch.randn(*shape, IN, requires_grad=True)
    hx = (torch.randn(*shape, H), torch.randn(*shape, H)) if with_hx else None
    state, gradient, gradients = cell_step(cell, x, hx)
    expected, expected_gradient, dense_gradients = cell_step(dense, x, hx)
    close(state, expected)
    close(gradient, expected_gradient)
    for name, g in dense_gradients.items():
        if name in ranks:
            close(gradients[f"{name}_U"], g @ getattr(cell, f"{name}_V").T)
            close(gradients[f"{name}_V"], getattr(cell, f"{name}_U").T @ g)
        else:
            close(gradients[name], g)


def test_cell_at_full_rank_is_the_dense_cell():
    torch.manual_seed(5)
    dense = nn.LSTMCell(IN, H)
    cell = LowRankLSTMCell.from_dense(dense, {"weight_ih": IN, "weight_hh": H})
    x = torch.randn(4, IN)
    close(cell(x), dense(x))
    close(dict(cell.to_dense().state_dict()), dict(dense.state_dict()))


def test_cell_state_dict_names():
    assert list(LowRankLSTMCell(IN, H).state_dict()) == list(nn.LSTMCell(IN, H).state_dict())
    names = list(LowRankLSTMCell(IN, H, ranks={"weight_hh": 2}).state_dict())
    assert names == ["weight_ih", "weight_hh_U", "weight_hh_V", "bias_ih", "bias_hh"]


def test_cell_in_bfloat16_follows_the_source():
    torch.manual_seed(6)
    dense = nn.LSTMCell(IN, H).to(torch.bfloat16)
    cell = LowRankLSTMCell.from_dense(dense, {"weight_ih": IN, "weight_hh": H})
    x = torch.randn(4, IN).bfloat16()
    close(cell(x), dense(x), 0.03)


def test_cell_errors_name_the_matrix_or_the_size():
    with pytest.raises(ShrinkError, match="weight_hh: rank 7"):
        LowRankLSTMCell(IN, H, ranks={"weight_hh": 7})
    with pytest.raises(ShrinkError, match="'weight_hh_l0' is not one of weight_ih, weight_hh"):
        LowRankLSTMCell(IN, H, ranks={"weight_hh_l0": 2})
    cell = LowRankLSTMCell(IN, H)
    with pytest.raises(RuntimeError, match="expected 7"):
        cell(torch.zeros(2, IN + 1))
    with pytest.raises(RuntimeError, match=r"hx\[1\]"):
        cell(torch.zeros(2, IN), (torch.zeros(2, H), torch.zeros(3, H)))
    with pytest.raises(ValueError, match="1D or 2D"):
        cell(torch.zeros(2, 2, IN))
