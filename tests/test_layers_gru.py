"""LowRankGRU and LowRankGRUCell against torch's, and against the product of their factors."""

import copy
import itertools
import pickle

import pytest
import torch
from test_layers_lstm import BAD, LENGTHS, make_input, matrices
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from toy import close

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers import LowRankGRU, LowRankGRUCell, LowRankLSTM

IN, H, BATCH = 5, 6, 4
KINDS = ["tensor", "batch_first", "unbatched", *LENGTHS]


def make_state(gru, kind):
    shape = (gru.num_layers * (2 if gru.bidirectional else 1), BATCH, H)
    return torch.randn((shape[0], H) if kind == "unbatched" else shape).requires_grad_()


def full_ranks(module):
    return {name: min(getattr(module, name).shape) for name in matrices(module)}


def run(gru, leaf, wrap, hx):
    """Output tensor, h_n, and the gradients of a loss over both."""
    gru.zero_grad()
    leaf.grad = None
    if hx is not None:
        hx.grad = None
    output, h_n = gru(wrap(leaf), hx)
    if isinstance(output, PackedSequence):
        output, _ = pad_packed_sequence(output)
    weight = torch.linspace(-1, 1, output.numel()).view_as(output)
    (output * weight).sum().add((h_n.sin() * 2).sum()).backward()
    inputs = {"x": leaf.grad.clone()} | ({} if hx is None else {"hx": hx.grad.clone()})
    return (output, h_n), inputs, {n: p.grad.clone() for n, p in gru.named_parameters()}


def check_chain_rule(module, ranks, gradients, dense_gradients):
    """W = U V, so dU = dW V^T and dV = U^T dW."""
    for name, g in dense_gradients.items():
        if name in ranks:
            u, v = getattr(module, f"{name}_U").detach(), getattr(module, f"{name}_V").detach()
            close(gradients[f"{name}_U"], g @ v.T)
            close(gradients[f"{name}_V"], u.T @ g)
        else:
            close(gradients[name], g)


TABLE = list(itertools.product([1, 2], [False, True], [True, False], KINDS, [False, True]))


@pytest.mark.parametrize("layers,bidirectional,bias,kind,with_hx", TABLE)
def test_equals_torch_dense_and_at_full_rank(layers, bidirectional, bias, kind, with_hx):
    torch.manual_seed(0)
    dense = nn.GRU(
        IN, H, layers, bias=bias, batch_first=kind == "batch_first", bidirectional=bidirectional
    )
    leaf, wrap = make_input(kind, dense.batch_first)
    hx = make_state(dense, kind) if with_hx else None
    expected, expected_inputs, expected_gradients = run(dense, leaf, wrap, hx)
    for ranks in ({}, full_ranks(dense)):
        results, inputs, gradients = run(LowRankGRU.from_dense(dense, ranks), leaf, wrap, hx)
        close(results, expected)
        close(inputs, expected_inputs)
        if not ranks:
            close(gradients, expected_gradients)


RANKS = {"weight_ih_l0": 2, "weight_hh_l0_reverse": 3, "weight_ih_l1_reverse": 4, "weight_hh_l1": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_factored_equals_the_product_of_its_factors(kind):
    torch.manual_seed(1)
    gru = LowRankGRU(IN, H, 2, batch_first=kind == "batch_first", bidirectional=True, ranks=RANKS)
    dense = gru.to_dense()
    leaf, wrap = make_input(kind, dense.batch_first)
    hx = make_state(dense, kind)
    expected, expected_inputs, dense_gradients = run(dense, leaf, wrap, hx)
    results, inputs, gradients = run(gru, leaf, wrap, hx)
    close(results, expected)
    close(inputs, expected_inputs)
    check_chain_rule(gru, RANKS, gradients, dense_gradients)


@pytest.mark.parametrize("low", [LowRankGRU, LowRankLSTM])
@pytest.mark.parametrize("kind", ["tensor", "batch_first", "unbatched"])
@pytest.mark.parametrize("with_hx", [False, True])
def test_one_frame_by_the_factors_equals_torch(low, kind, with_hx):
    """As ESPnet's language models and transducers decode: token by token."""
    torch.manual_seed(2)
    rnn = low(IN, H, 2, batch_first=kind == "batch_first", bidirectional=True, ranks=RANKS)
    dense = rnn.to_dense()
    shape = {"tensor": (1, BATCH, IN), "batch_first": (BATCH, 1, IN), "unbatched": (1, IN)}[kind]
    hx = tuple(make_state(rnn, kind) for _ in range(rnn.state_count)) if with_hx else None
    given = hx[0] if hx and low is LowRankGRU else hx
    found = {}
    for module in (rnn, dense):
        x = torch.ones(shape, requires_grad=True)
        output, state = module(x, given)
        states = (state,) if low is LowRankGRU else state
        (output.sin().sum() + sum(s.cos().sum() for s in states)).backward()
        found[module] = (output, state, x.grad), {n: p.grad for n, p in module.named_parameters()}
    close(found[rnn][0], found[dense][0])
    check_chain_rule(rnn, RANKS, found[rnn][1], found[dense][1])


@pytest.mark.parametrize("low", [LowRankGRU, LowRankLSTM])
def test_dropout_acts_between_layers_in_training_only(low):
    torch.manual_seed(3)
    rnn = low(IN, H, 2, dropout=0.5, ranks={"weight_ih_l1": 2})
    for x in (torch.randn(7, BATCH, IN), torch.randn(1, BATCH, IN)):

        def states(x=x):
            found = rnn(x)[1]
            return found[0] if low is LowRankLSTM else found

        rnn.train()
        first, second = states(), states()
        assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
        with torch.no_grad():
            assert not torch.equal(states()[1], states()[1])
        rnn.eval()
        assert torch.equal(states(), states())


def test_state_carried_over_frames_is_exact():
    torch.manual_seed(4)
    gru = LowRankGRU(IN, H, 2, ranks={"weight_ih_l0": 2, "weight_hh_l1": 3}).eval()
    x = torch.randn(6, BATCH, IN)
    with torch.no_grad():
        whole, whole_state = gru(x)
        outputs, state = [], None
        for frame in x.split([1, 3, 1, 1]):
            y, state = gru(frame, state)
            outputs.append(y)
    close(torch.cat(outputs), whole, 1e-6)
    close(state, whole_state, 1e-6)


def test_to_dense_undoes_from_dense_at_full_rank():
    dense = nn.GRU(IN, H, 2, bidirectional=True, batch_first=True, dropout=0.2).eval()
    back = LowRankGRU.from_dense(dense, full_ranks(dense)).to_dense()
    assert type(back) is nn.GRU and not back.training
    assert (back.batch_first, back.dropout, back.num_layers) == (True, 0.2, 2)
    close(dict(back.state_dict()), dict(dense.state_dict()))


def test_state_dict_names_are_torchs_with_factors_suffixed():
    dense = nn.GRU(IN, H, 2, bidirectional=True)
    assert list(LowRankGRU(IN, H, 2, bidirectional=True).state_dict()) == list(dense.state_dict())
    gru = LowRankGRU(IN, H, ranks={"weight_hh_l0": 3})
    shapes = {name: tuple(p.shape) for name, p in gru.state_dict().items()}
    assert shapes == {
        "weight_ih_l0": (3 * H, IN),
        "weight_hh_l0_U": (3 * H, 3),
        "weight_hh_l0_V": (3, H),
        "bias_ih_l0": (3 * H,),
        "bias_hh_l0": (3 * H,),
    }


@pytest.mark.parametrize(("low", "dense"), [(LowRankGRU, nn.GRU), (LowRankLSTM, nn.LSTM)])
def test_is_an_instance_of_torchs_class_with_its_attributes(low, dense):
    """ESPnet's language model asks isinstance(rnn, torch.nn.LSTM) how its state looks."""
    options = dict(num_layers=2, bias=False, batch_first=True, dropout=0.25, bidirectional=True)
    rnn, wanted = low(IN, H, **options, ranks={"weight_hh_l1": 2}), dense(IN, H, **options)
    assert isinstance(rnn, dense)
    for name in ("mode", "input_size", "hidden_size", "proj_size", *options):
        assert getattr(rnn, name) == getattr(wanted, name)
    assert rnn.flatten_parameters() is None
    wanted.load_state_dict(rnn.to_dense().state_dict())
    close(rnn.all_weights, wanted.all_weights)


@pytest.mark.parametrize("low", [LowRankGRU, LowRankLSTM])
def test_copies_pickles_and_casts_like_any_module(low):
    rnn = low(IN, H, 2, ranks={"weight_hh_l1": 2})
    x = torch.randn(3, BATCH, IN)
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        close(other(x), rnn(x), 0)
        other.weight_hh_l1_U.data.zero_()
        assert rnn.weight_hh_l1_U.any()
    double = copy.deepcopy(rnn).double()
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    close(double(x.double())[0].float(), rnn(x)[0])


@pytest.mark.parametrize("case", BAD)
def test_input_that_does_not_fit_fails_as_in_torch(case):
    x, hx = BAD[case]
    hx = None if hx is None else hx[0]
    for ranks in ({}, {"weight_ih_l0": 2}):
        gru = LowRankGRU(IN, H, ranks=ranks)
        with pytest.raises((RuntimeError, ValueError)) as expected:
            gru.to_dense()(x, hx)
        with pytest.raises(expected.type):
            gru(x, hx)


def test_ranks_and_names_that_do_not_fit_are_errors():
    with pytest.raises(ShrinkError, match="weight_ih_l0: rank 6 of a 18 x 5 matrix"):
        LowRankGRU(IN, H, ranks={"weight_ih_l0": IN + 1})
    with pytest.raises(ShrinkError, match="weight_ih_l7"):
        LowRankGRU.from_dense(nn.GRU(IN, H), {"weight_ih_l7": 2})
    with pytest.raises(ShrinkError, match="'weight_hh_l0' is not one of weight_ih, weight_hh"):
        LowRankGRUCell(IN, H, ranks={"weight_hh_l0": 2})


CELL_RANKS = [{}, {"weight_ih": 2}, {"weight_hh": 3}, {"weight_ih": 2, "weight_hh": 3}]


def cell_step(cell, x, hx):
    cell.zero_grad()
    x.grad = None
    h = cell(x, hx)
    (h.sin().sum() + 2 * cell(x, h).cos().sum()).backward()
    return (h, x.grad.clone()), {n: p.grad.clone() for n, p in cell.named_parameters()}


@pytest.mark.parametrize("ranks", CELL_RANKS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), ()])
@pytest.mark.parametrize("with_hx", [True, False])
def test_cell_equals_the_product_of_its_factors(ranks, bias, shape, with_hx):
    torch.manual_seed(5)
    cell = LowRankGRUCell(IN, H, bias, ranks)
    dense = cell.to_dense()
    x = torch.randn(*shape, IN, requires_grad=True)
    hx = torch.randn(*shape, H) if with_hx else None
    results, gradients = cell_step(cell, x, hx)
    expected, dense_gradients = cell_step(dense, x, hx)
    close(results, expected)
    check_chain_rule(cell, ranks, gradients, dense_gradients)


def test_cell_at_full_rank_is_the_dense_cell():
    dense = nn.GRUCell(IN, H)
    cell = LowRankGRUCell.from_dense(dense, {"weight_ih": IN, "weight_hh": H})
    x = torch.randn(4, IN)
    close(cell(x), dense(x))
    close(dict(cell.to_dense().state_dict()), dict(dense.state_dict()))
    assert list(LowRankGRUCell(IN, H).state_dict()) == list(dense.state_dict())


def test_cell_input_that_does_not_fit_fails():
    cell = LowRankGRUCell(IN, H)
    with pytest.raises(RuntimeError, match="expected 5"):
        cell(torch.zeros(2, IN + 1))
    with pytest.raises(RuntimeError, match=r"hx\[0\]"):
        cell(torch.zeros(2, IN), torch.zeros(3, H))
    with pytest.raises(ValueError, match="LowRankGRUCell: expected input to be 1D or 2D"):
        cell(torch.zeros(2, 2, IN))
