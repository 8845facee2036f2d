"""LowRankLSTM against torch.nn.LSTM and against the product of its factors."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers import LowRankLSTM
from espnet_shrink.layers import fused as fused_module

IN, H, BATCH = 5, 6, 4
LENGTHS = {"packed": [9, 7, 7, 2], "unsorted": [2, 9, 1, 7], "packed_equal": [6, 6, 6, 6]}


def matrices(lstm):
    return [name for name, _ in lstm.named_parameters() if name.startswith("weight")]


def full_ranks(lstm):
    return {name: min(getattr(lstm, name).shape) for name in matrices(lstm)}


def make_input(kind, batch_first=False, dtype=torch.float32):
    """A leaf tensor and the function that turns it into the LSTM's input."""
    lengths = LENGTHS.get(kind)
    if kind == "unbatched":
        leaf = torch.randn(9, IN, dtype=dtype)
    else:
        steps = max(lengths) if lengths else 9
        leaf = torch.randn(*((BATCH, steps) if batch_first else (steps, BATCH)), IN, dtype=dtype)
    leaf.requires_grad_()
    if lengths is None:
        return leaf, lambda x: x
    return leaf, lambda x: pack_padded_sequence(
        x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=kind == "packed"
    )


def make_state(lstm, kind, dtype=torch.float32):
    shape = (lstm.num_layers * (2 if lstm.bidirectional else 1), BATCH, H)
    if kind == "unbatched":
        shape = (shape[0], H)
    return tuple(torch.randn(shape, dtype=dtype).requires_grad_() for _ in range(2))


def run(lstm, leaf, wrap, hx):
    """Output tensor, h_n, c_n and the gradients of a loss over all three."""
    for tensor in (leaf, *(hx or ())):
        tensor.grad = None
    lstm.zero_grad()
    output, (h_n, c_n) = lstm(wrap(leaf), hx)
    if isinstance(output, PackedSequence):
        output, _ = pad_packed_sequence(output)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * weight).sum().add((h_n.sin() * 2).sum()).add((c_n.cos() * 3).sum()).backward()
    gradients = {"x": leaf.grad} | {n: p.grad for n, p in lstm.named_parameters()}
    if hx:
        gradients |= {"h_0": hx[0].grad, "c_0": hx[1].grad}
    return (output, h_n, c_n), {k: g.clone() for k, g in gradients.items()}


def assert_close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def input_gradients(gradients):
    return {k: gradients[k] for k in ("x", "h_0", "c_0") if k in gradients}


KINDS = ["tensor", "batch_first", "unbatched", "packed", "unsorted", "packed_equal"]
TABLE = list(itertools.product([1, 2, 3], [False, True], [True, False], KINDS, [False, True]))


@pytest.mark.parametrize("layers,bidirectional,bias,kind,with_hx", TABLE)
def test_equals_torch_dense_and_at_full_rank(layers, bidirectional, bias, kind, with_hx):
    torch.manual_seed(0)
    dense = nn.LSTM(
        IN, H, layers, bias=bias, batch_first=kind == "batch_first", bidirectional=bidirectional
    )
    leaf, wrap = make_input(kind, dense.batch_first)
    hx = make_state(dense, kind) if with_hx else None
    expected, expected_gradients = run(dense, leaf, wrap, hx)

    same = LowRankLSTM.from_dense(dense, {})
    results, gradients = run(same, leaf, wrap, hx)
    assert_close(results, expected)
    assert_close(gradients, expected_gradients)

    full = LowRankLSTM.from_dense(dense, full_ranks(dense))
    results, gradients = run(full, leaf, wrap, hx)
    assert_close(results, expected)
    assert_close(input_gradients(gradients), input_gradients(expected_gradients))


@pytest.mark.parametrize("kind", KINDS)
def test_factored_equals_the_product_of_its_factors(kind):
    torch.manual_seed(1)
    ranks = {"weight_ih_l0": 2, "weight_hh_l0_reverse": 3, "weight_ih_l1_reverse": 4}
    ranks["weight_hh_l1"] = 1
    lstm = LowRankLSTM(IN, H, 2, batch_first=kind == "batch_first", bidirectional=True, ranks=ranks)
    dense = lstm.to_dense()
    leaf, wrap = make_input(kind, dense.batch_first)
    hx = make_state(dense, kind)
    expected, dense_gradients = run(dense, leaf, wrap, hx)
    results, gradients = run(lstm, leaf, wrap, hx)
    assert_close(results, expected)
    assert_close(input_gradients(gradients), input_gradients(dense_gradients))
    for name in matrices(dense):
        g = dense_gradients[name]
        if name not in ranks:
            assert_close(gradients[name], g)
            continue
        # chain rule: W = U V, so dU = dW V^T and dV = U^T dW
        u, v = getattr(lstm, f"{name}_U"), getattr(lstm, f"{name}_V")
        assert_close(gradients[f"{name}_U"], g @ v.detach().T)
        assert_close(gradients[f"{name}_V"], u.detach().T @ g)


@pytest.mark.parametrize("kind", ["tensor", "packed", "unsorted"])
def test_bfloat16_stays_near_float32(kind):
    torch.manual_seed(2)
    dense = nn.LSTM(IN, H, 2, bidirectional=True).to(torch.bfloat16)
    ranks = {name: 3 for name in matrices(dense)}
    lstm = LowRankLSTM.from_dense(dense, ranks)
    assert {p.dtype for p in lstm.parameters()} == {torch.bfloat16}
    leaf, wrap = make_input(kind, dtype=torch.bfloat16)
    results, gradients = run(lstm, leaf, wrap, None)
    assert all(t.dtype == torch.bfloat16 for t in results)
    reference = copy.deepcopy(lstm).float()
    exact, exact_gradients = run(reference, leaf.detach().float().requires_grad_(), wrap, None)
    assert_close([t.float() for t in results], list(exact), 0.03)
    error = (gradients["x"].float() - exact_gradients["x"]).norm()
    assert error < 0.05 * exact_gradients["x"].norm()


def test_the_cudnn_packed_path_equals_torch():
    """Same rows and reversal as on CUDA, through torch's own packed kernel."""
    torch.manual_seed(3)
    lstm = LowRankLSTM(IN, H, bidirectional=True, ranks={"weight_ih_l0_reverse": 2})
    dense = lstm.to_dense()
    packed = pack_padded_sequence(torch.randn(9, BATCH, IN), torch.tensor(LENGTHS["packed"]))
    run_packed = fused_module._RunPacked(packed.batch_sizes, torch.device("cpu"))
    zeros = (torch.zeros(2, BATCH, H), torch.zeros(2, BATCH, H))
    layers = [[lstm._direction("_l0"), lstm._direction("_l0_reverse")]]
    sizes = packed.batch_sizes
    y, state = fused_module._run_layers(layers, packed.data, zeros, 0.0, run_packed, sizes)
    expected, expected_state = dense(packed)
    assert_close(y, expected.data)
    assert_close(state, expected_state)


def test_to_dense_undoes_from_dense_at_full_rank():
    torch.manual_seed(4)
    dense = nn.LSTM(IN, H, 2, bidirectional=True, batch_first=True, dropout=0.2).eval()
    back = LowRankLSTM.from_dense(dense, full_ranks(dense)).to_dense()
    assert type(back) is nn.LSTM and not back.training
    assert (back.batch_first, back.dropout, back.num_layers) == (True, 0.2, 2)
    assert_close(dict(back.state_dict()), dict(dense.state_dict()))


def test_given_factors_are_used_as_they_are():
    dense = nn.LSTM(IN, H)
    u, v = torch.randn(4 * H, 2), torch.randn(2, H)
    lstm = LowRankLSTM.from_dense(dense, {"weight_hh_l0": 2}, {"weight_hh_l0": (u, v)})
    assert torch.equal(lstm.weight_hh_l0_U, u) and torch.equal(lstm.weight_hh_l0_V, v)


@pytest.mark.parametrize("ranks", [{}, {"weight_ih_l0": 2, "weight_hh_l1": 3}])
def test_state_carried_over_chunks_is_exact(ranks):
    torch.manual_seed(5)
    lstm = LowRankLSTM(IN, H, 2, ranks=ranks).eval()
    x = torch.randn(11, BATCH, IN)
    with torch.no_grad():
        whole, whole_state = lstm(x)
        outputs, state = [], None
        for chunk in x.split([1, 4, 1, 5]):
            y, state = lstm(chunk, state)
            outputs.append(y)
    assert_close(torch.cat(outputs), whole, 1e-6)
    assert_close(state, whole_state, 1e-6)


@pytest.mark.parametrize("kind", ["tensor", "packed"])
def test_dropout_acts_between_layers_in_training_only(kind):
    torch.manual_seed(6)
    lstm = LowRankLSTM(IN, H, 2, dropout=0.5, ranks={"weight_ih_l1": 2})
    leaf, wrap = make_input(kind)

    def states():
        return lstm(wrap(leaf))[1][0]

    first, second = states(), states()
    assert torch.equal(first[0], second[0])  # nothing is dropped at or below layer 0
    assert not torch.equal(first[1], second[1])
    assert (first[1] != 0).all()  # nor after the last
    lstm.eval()
    assert torch.equal(states(), states())
    lstm.train().dropout = 1.0  # everything dropped: layer 1 cannot see the input
    blind = states()[1]
    leaf.data.mul_(2)
    assert torch.equal(states()[1], blind)


def test_state_dict_names_are_torchs_with_factors_suffixed():
    dense = nn.LSTM(IN, H, 2, bidirectional=True)
    assert list(LowRankLSTM(IN, H, 2, bidirectional=True).state_dict()) == list(dense.state_dict())
    lstm = LowRankLSTM(IN, H, ranks={"weight_hh_l0": 3})
    shapes = {name: tuple(p.shape) for name, p in lstm.state_dict().items()}
    assert shapes == {
        "weight_ih_l0": (4 * H, IN),
        "weight_hh_l0_U": (4 * H, 3),
        "weight_hh_l0_V": (3, H),
        "bias_ih_l0": (4 * H,),
        "bias_hh_l0": (4 * H,),
    }


def test_has_the_attributes_of_torchs_lstm():
    options = dict(num_layers=2, bias=False, batch_first=True, dropout=0.25, bidirectional=True)
    dense, lstm = nn.LSTM(IN, H, **options), LowRankLSTM(IN, H, **options)
    for name in ("mode", "input_size", "hidden_size", *options):
        assert getattr(lstm, name) == getattr(dense, name)
    assert lstm.flatten_parameters() is None


def test_fresh_products_have_the_variance_of_torchs_initialisation():
    torch.manual_seed(7)
    lstm = LowRankLSTM(64, 64, ranks={"weight_hh_l0": 8})
    product = lstm.to_dense().weight_hh_l0
    assert product.std().item() == pytest.approx(lstm.weight_ih_l0.std().item(), rel=0.1)


def test_from_dense_leaves_the_random_state_and_the_source_alone():
    dense = nn.LSTM(IN, H)
    before = copy.deepcopy(dense.state_dict())
    random_state = torch.get_rng_state()
    lstm = LowRankLSTM.from_dense(dense, {"weight_ih_l0": 2})
    assert torch.equal(torch.get_rng_state(), random_state)
    with torch.no_grad():
        for p in lstm.parameters():
            p.zero_()
    assert_close(dict(dense.state_dict()), dict(before), 0)


@pytest.mark.parametrize("rank", [0, -1, IN + 1, 2.0, True])
def test_a_rank_out_of_range_is_an_error_naming_the_matrix(rank):
    with pytest.raises(ShrinkError, match="weight_ih_l0: rank"):
        LowRankLSTM(IN, H, ranks={"weight_ih_l0": rank})
    with pytest.raises(ShrinkError, match="weight_ih_l0: rank"):
        LowRankLSTM.from_dense(nn.LSTM(IN, H), {"weight_ih_l0": rank})


def test_names_and_factors_that_do_not_fit_are_errors():
    dense = nn.LSTM(IN, H)
    u, v = torch.randn(4 * H, 3), torch.randn(3, IN)
    with pytest.raises(ShrinkError, match="weight_ih_l7"):
        LowRankLSTM.from_dense(dense, {"weight_ih_l7": 2})
    with pytest.raises(ShrinkError, match="factors have shapes"):
        LowRankLSTM.from_dense(dense, {"weight_ih_l0": 2}, {"weight_ih_l0": (u, v)})
    with pytest.raises(ShrinkError, match="factors: 'weight_hh_l0'"):
        LowRankLSTM.from_dense(dense, {"weight_ih_l0": 3}, {"weight_hh_l0": (u, v)})
    with pytest.raises(ShrinkError, match="proj_size"):
        LowRankLSTM.from_dense(nn.LSTM(IN, H, proj_size=2), {})


BAD = {
    "features": (torch.zeros(3, 2, IN + 1), None),
    "dimensions": (torch.zeros(3, 2, 2, IN), None),
    "no frames": (torch.zeros(0, 2, IN), None),
    "dtype": (torch.zeros(3, 2, IN, dtype=torch.float64), None),
    "state batch": (torch.zeros(3, 2, IN), (torch.zeros(1, 3, H), torch.zeros(1, 3, H))),
    "state dims": (torch.zeros(3, IN), (torch.zeros(1, 1, H), torch.zeros(1, 1, H))),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("ranks", [{}, {"weight_ih_l0": 2}])
def test_input_that_does_not_fit_fails_as_in_torch(case, ranks):
    lstm = LowRankLSTM(IN, H, ranks=ranks)
    with pytest.raises((RuntimeError, ValueError)) as expected:
        lstm.to_dense()(*BAD[case])
    with pytest.raises(expected.type):
        lstm(*BAD[case])


def test_a_batch_of_no_sequences_gives_what_torch_gives():
    lstm = LowRankLSTM(IN, H, 2, bidirectional=True, ranks={"weight_ih_l0": 2})
    x = torch.zeros(3, 0, IN)
    expected, (h_n, c_n) = lstm.to_dense()(x)
    output, state = lstm(x)
    assert output.shape == expected.shape == (3, 0, 2 * H)
    assert (state[0].shape, state[1].shape) == (h_n.shape, c_n.shape)


def test_no_grad_builds_no_graph():
    lstm = LowRankLSTM(IN, H, ranks={"weight_ih_l0": 2, "weight_hh_l0": 2})
    with torch.no_grad():
        output, (h_n, c_n) = lstm(torch.randn(3, 2, IN))
    assert not (output.requires_grad or h_n.requires_grad or c_n.requires_grad)


def test_gradients_flow_in_evaluation_mode():
    lstm = LowRankLSTM(IN, H, ranks={"weight_ih_l0": 2}).eval()
    leaf, wrap = make_input("packed")
    _, gradients = run(lstm, leaf, wrap, None)
    _, expected = run(lstm.train(), leaf, wrap, None)
    assert_close(gradients, expected)
