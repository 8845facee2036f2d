"""The low-rank LSTM with 8-bit weights gives the results of the rounded matrices."""

import copy
import io

import pytest
import torch
from test_layers_kernel import CASES, factored, given, output
from toy import close

from espnet_shrink.layers.int8 import Int8LowRankLSTM, to_int8


@torch.no_grad()
def rounded(lstm):
    """The float layer with the weights that the 8-bit one has."""
    lstm = copy.deepcopy(lstm)
    for name, weight in lstm.named_parameters():
        if name.endswith("_U"):
            q, scale = to_int8(weight.t())
            weight.copy_((q * scale).t())
        elif name.startswith("weight"):
            q, scale = to_int8(weight)
            weight.copy_(q * scale)
    return lstm


def test_rounding_is_symmetric_by_rows_and_loses_half_a_step():
    rows = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [-1e-3, 1e-3, 4e-4]])
    q, scale = to_int8(rows)
    assert q.dtype == torch.int8 and q.tolist() == [[64, -127, 32], [0, 0, 0], [-127, 127, 51]]
    assert ((q * scale - rows).abs() <= scale / 2).all()
    assert torch.equal(to_int8(-rows)[0], -q)


@pytest.mark.parametrize(("kind", "ranks", "batch_first", "bias"), CASES)
@torch.no_grad()
def test_equals_the_rounded_float_layer(kind, ranks, batch_first, bias):
    torch.manual_seed(0)
    lstm = factored(ranks, batch_first=batch_first, bias=bias)
    small, x = Int8LowRankLSTM.from_float(lstm), given(kind, batch_first)
    found = output(small, x)
    close(found, output(rounded(lstm), x), 1e-5)
    close(found, output(lstm, x), 0.02)
    assert not torch.equal(found[0], output(lstm, x)[0])


@pytest.mark.parametrize("ranks", [(3, 16), (3, None), (None, None)])
@torch.no_grad()
def test_where_the_kernel_does_not_run_the_library_does(ranks):
    torch.manual_seed(1)
    lstm, x = factored(ranks), given("packed")
    close(output(Int8LowRankLSTM.from_float(lstm), x), output(rounded(lstm), x), 1e-5)


@pytest.mark.parametrize("chunk", [1, 4])
@torch.no_grad()
def test_streaming_in_chunks_is_the_whole(chunk):
    torch.manual_seed(2)
    lstm = Int8LowRankLSTM.from_float(factored(bidirectional=False))
    x, parts, hx = given("batch"), [], None
    whole, *state = output(lstm, x)
    for piece in x.split(chunk):
        part, hx = lstm(piece, hx)
        parts.append(part)
    close((torch.cat(parts), *hx), (whole, *state), 2e-6)


@torch.no_grad()
def test_its_state_dict_is_a_quarter_and_restores_it():
    torch.manual_seed(3)
    lstm, x = factored(), given("packed")
    small = Int8LowRankLSTM.from_float(lstm)
    matrices = [n for n, _ in lstm.named_parameters() if n.startswith("weight")]
    assert all(small.state_dict()[name].dtype == torch.int8 for name in matrices)
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    other = Int8LowRankLSTM.from_float(factored())
    other.load_state_dict(torch.load(file))
    assert all(map(torch.equal, output(other, x), output(small, x)))


@torch.no_grad()
def test_a_quantised_layer_needs_no_gradient_to_be_off():
    """ESPnet decodes without gradients; a layer that has none gives the same with them on."""
    torch.manual_seed(4)
    lstm, x = Int8LowRankLSTM.from_float(factored()), given("batch")
    expected = output(lstm, x)
    with torch.enable_grad():
        close(output(lstm, x), expected, 2e-6)
