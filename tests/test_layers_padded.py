"""The padded path for packed input, on plain torch.nn.LSTM modules and as a patch."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from espnet_shrink.layers import padded_lstm_forward, use_padded_lstm

IN, H = 5, 16
LENGTHS = [[12, 9, 9, 1], [1, 12, 3, 7], [4, 4, 4], [6]]


@pytest.fixture
def patched():
    original = inspect.unwrap(nn.LSTM.forward)  # other tests may have patched it
    use_padded_lstm()
    yield original
    nn.LSTM.forward = original


def pack(x, lengths):
    return pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)


def step(lstm, forward, x, lengths, hx):
    lstm.zero_grad()
    x = x.clone().requires_grad_()
    output, (h_n, c_n) = forward(pack(x, lengths), hx)
    (output.data.sin().sum() + h_n.cos().sum() + 2 * c_n.cos().sum()).backward()
    return output, (h_n, c_n), [x.grad] + [p.grad.clone() for p in lstm.parameters()]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_hx", [False, True])
def test_equals_torchs_packed_path(lengths, bidirectional, bias, with_hx):
    torch.manual_seed(0)
    lstm = nn.LSTM(IN, H, 2, bidirectional=bidirectional, bias=bias)
    x = torch.randn(max(lengths), len(lengths), IN) * 3
    hx = None
    if with_hx:
        shape = (4 if bidirectional else 2, len(lengths), H)
        hx = (torch.randn(shape), torch.randn(shape))
    expected, expected_state, expected_gradients = step(lstm, lstm, x, lengths, hx)
    output, state, gradients = step(
        lstm, lambda packed, hx: padded_lstm_forward(lstm, packed, hx), x, lengths, hx
    )
    assert isinstance(output, PackedSequence)
    assert torch.equal(output.batch_sizes, expected.batch_sizes)
    assert torch.equal(output.unsorted_indices, expected.unsorted_indices)
    torch.testing.assert_close(output.data, expected.data, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, expected_state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-5)


def test_a_long_padding_leaves_the_cell_state_bit_for_bit():
    """The short sequence alone and beside a long one: the freeze is exact, not approximate."""
    torch.manual_seed(1)
    lstm = nn.LSTM(IN, H)
    x = torch.randn(200, 2, IN)
    with torch.no_grad():
        _, (h_n, c_n) = padded_lstm_forward(lstm, pack(x, [200, 3]))
        _, (h_3, c_3) = padded_lstm_forward(lstm, pack(x[:4], [4, 3]))
    torch.testing.assert_close(c_n[:, 1], c_3[:, 1], rtol=0, atol=1e-7)
    torch.testing.assert_close(h_n[:, 1], h_3[:, 1], rtol=0, atol=1e-7)


def test_wrong_input_size_and_state_are_errors():
    lstm = nn.LSTM(IN, H)
    with pytest.raises(RuntimeError, match="Expected 5, got 6"):
        padded_lstm_forward(lstm, pack(torch.zeros(3, 2, IN + 1), [3, 2]))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size"):
        states = (torch.zeros(1, 3, H), torch.zeros(1, 3, H))
        padded_lstm_forward(lstm, pack(torch.zeros(3, 2, IN), [3, 2]), states)


def test_dropout_between_layers_follows_the_training_mode():
    torch.manual_seed(2)
    lstm = nn.LSTM(IN, H, 2, dropout=0.5)
    packed = pack(torch.randn(6, 3, IN), [6, 4, 2])

    def h_n():
        return padded_lstm_forward(lstm, packed)[1][0]

    first, second = h_n(), h_n()
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
    lstm.eval()
    assert torch.equal(h_n(), h_n())


def test_patch_gives_torchs_numbers_for_packed_input(patched):
    torch.manual_seed(3)
    lstm = nn.LSTM(IN, H, 2, bidirectional=True)
    packed = pack(torch.randn(12, 4, IN), LENGTHS[1])
    output, state = lstm(packed)
    expected, expected_state = patched(lstm, packed)
    torch.testing.assert_close(output.data, expected.data, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, expected_state, rtol=1e-5, atol=1e-5)
    # the fused kernel is what ran: torch's packed path has no such node
    assert "MkldnnRnnLayer" in graph_nodes(output.data)
    assert "MkldnnRnnLayer" not in graph_nodes(expected.data)


def graph_nodes(tensor):
    names, seen, todo = "", set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names += node.name() + " "
        todo += [child for child, _ in node.next_functions]
    return names


def test_patch_twice_is_patch_once(patched):
    once = nn.LSTM.forward
    use_padded_lstm()
    assert nn.LSTM.forward is once


@pytest.mark.parametrize("proj_size", [0, 4])
def test_patch_leaves_other_input_to_torch(patched, proj_size):
    torch.manual_seed(4)
    lstm = nn.LSTM(IN, H, proj_size=proj_size, batch_first=True)
    inputs = [torch.randn(2, 7, IN), torch.randn(7, IN)]
    if proj_size:
        inputs.append(pack(torch.randn(4, 3, IN), [4, 2, 1]))
    for x in inputs:
        (output, state), (expected, expected_state) = lstm(x), patched(lstm, x)
        if isinstance(x, PackedSequence):
            output, expected = output.data, expected.data
        assert torch.equal(output, expected)
        assert all(map(torch.equal, state, expected_state))
