"""Second moments and use counts, against sums written out by hand."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from toy import TOKENS, close, toy, utterance

from espnet_shrink.methods.lowrank.decompose import decompose
from espnet_shrink.methods.lowrank.moments import collect
from espnet_shrink.methods.lowrank.sites import survey

LENGTHS = (9, 1, 4)


def observe(model, run):
    return collect(model, survey(model).sites, run)


def mean_square(rows):
    """(N, d) -> (d, d): the mean of x x^T."""
    return sum(torch.outer(row, row) for row in rows) / len(rows)


def step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """One LSTM step by its definition."""
    i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def unroll(lstm, layer, suffix, frames):
    """The states before each step, and the outputs, of one direction over (T, in)."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(lstm, f"{kind}_l{layer}{suffix}") for kind in kinds]
    h = c = torch.zeros(lstm.hidden_size)
    before, outputs = [], []
    for x in reversed(frames) if suffix else frames:
        before.append(h)
        h, c = step(x, h, c, *weights)
        outputs.append(h)
    return before, outputs[::-1] if suffix else outputs


def lstm_by_hand(lstm, utterances):
    """Weight name -> the inputs that it met."""
    met = {}
    for frames in utterances:
        frames = list(frames)
        for layer in range(lstm.num_layers):
            both = []
            for suffix in ("", "_reverse") if lstm.bidirectional else ("",):
                before, outputs = unroll(lstm, layer, suffix, frames)
                met.setdefault(f"weight_ih_l{layer}{suffix}", []).extend(frames)
                met.setdefault(f"weight_hh_l{layer}{suffix}", []).extend(before)
                both.append(outputs)
            frames = [torch.cat(parts) for parts in zip(*both, strict=True)]
    return met


def check_lstm(lstm, utterances, run):
    model = nn.ModuleDict({"rnn": lstm.eval()})
    seen = observe(model, run)
    with torch.no_grad():
        met = lstm_by_hand(lstm, utterances)
    assert seen.uses == {f"rnn.{name}": len(rows) for name, rows in met.items()}
    assert seen.moments.keys() == seen.uses.keys()
    for name, rows in met.items():
        close(seen.moments[f"rnn.{name}"], mean_square(rows))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_moments_of_each_layer_and_direction(bidirectional, batch_first, packed):
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 7, 2, bidirectional=bidirectional, batch_first=batch_first)
    utterances = [torch.randn(length, 10) for length in LENGTHS]

    def run():
        for frames in utterances:
            batch = frames[None] if batch_first else frames[:, None]
            lengths = torch.tensor([len(frames)])
            lstm(pack_padded_sequence(batch, lengths, batch_first) if packed else batch)

    check_lstm(lstm, utterances, run)


def test_lstm_of_three_layers_without_bias_on_unbatched_input():
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 7, 3, bidirectional=True)
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()
    plain = nn.LSTM(10, 7, 3, bidirectional=True, bias=False)
    plain.load_state_dict({k: v for k, v in lstm.state_dict().items() if k.startswith("weight")})
    frames = torch.randn(6, 10)
    seen = observe(nn.ModuleDict({"rnn": plain.eval()}), lambda: plain(frames))
    with torch.no_grad():
        met = lstm_by_hand(lstm, [frames])
    for name, rows in met.items():
        close(seen.moments[f"rnn.{name}"], mean_square(rows))


def test_linear_moments_over_all_utterances_and_calls():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8))
    inputs = [torch.randn(1, length, 6) for length in LENGTHS] + [torch.randn(6)]
    seen = observe(model, lambda: [model(x) for x in inputs])
    rows = torch.cat([x.reshape(-1, 6) for x in inputs])
    assert seen.uses == {"0.weight": sum(LENGTHS) + 1}
    close(seen.moments["0.weight"], mean_square(rows))


@pytest.mark.parametrize("as_keyword", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_cell_moments_in_a_loop(batched, as_keyword):
    torch.manual_seed(0)
    cell = nn.LSTMCell(6, 5)
    inputs = torch.randn(8, 6)

    def run():
        state = None
        for x in inputs:
            x = x[None] if batched else x
            state = cell(x, hx=state) if as_keyword else cell(x, state) if state else cell(x)

    seen = observe(nn.ModuleDict({"cell": cell}), run)
    with torch.no_grad():
        h = c = torch.zeros(5)
        before = []
        for x in inputs:
            before.append(h)
            h, c = step(x, h, c, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    assert seen.uses == {"cell.weight_ih": 8, "cell.weight_hh": 8}
    close(seen.moments["cell.weight_ih"], mean_square(inputs))
    close(seen.moments["cell.weight_hh"], mean_square(before))


@pytest.mark.parametrize("batched", [False, True])
def test_gru_cell_moments_in_a_loop(batched):
    torch.manual_seed(0)
    cell = nn.GRUCell(6, 5)
    inputs, before, state = torch.randn(8, 6), [], torch.randn(5)

    def run():
        h = state[None] if batched else state
        for x in inputs:
            before.append(h.reshape(-1))
            h = cell(x[None] if batched else x, h)

    seen = observe(nn.ModuleDict({"cell": cell}), run)
    assert seen.uses == {"cell.weight_ih": 8, "cell.weight_hh": 8}
    close(seen.moments["cell.weight_ih"], mean_square(inputs))
    close(seen.moments["cell.weight_hh"], mean_square(before))


@pytest.mark.parametrize("kind", ["time_first", "batch_first", "packed", "unbatched"])
@pytest.mark.parametrize("with_hx", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cls", [nn.GRU, nn.LSTM])
def test_recurrent_moments_are_those_of_the_cells_it_is_made_of(cls, bidirectional, with_hx, kind):
    """Every layer and direction written out as a loop over a cell, from any initial state."""
    torch.manual_seed(0)
    rnn = cls(6, 5, 2, bidirectional=bidirectional, batch_first=kind == "batch_first")
    utterances = [torch.randn(length, 6) for length in LENGTHS]
    layers = 4 if bidirectional else 2
    hx = torch.randn(layers, 1, 5) if with_hx else torch.zeros(layers, 1, 5)

    def run():
        for x in utterances:
            given = hx if kind != "unbatched" else hx[:, 0]
            state = ((given, given) if cls is nn.LSTM else given) if with_hx else None
            if kind == "packed":
                rnn(pack_padded_sequence(x[:, None], torch.tensor([len(x)])), state)
            elif kind == "unbatched":
                rnn(x, hx=state)
            else:
                rnn(x[None] if rnn.batch_first else x[:, None], state)

    seen = observe(nn.ModuleDict({"rnn": rnn}), run)
    met = {}
    for x in utterances:
        frames = x
        for layer in range(2):
            both = []
            for d, suffix in enumerate(("", "_reverse") if bidirectional else ("",)):
                cell = (nn.LSTMCell if cls is nn.LSTM else nn.GRUCell)(frames.shape[1], 5)
                own = {n: getattr(rnn, f"{n}_l{layer}{suffix}") for n, _ in cell.named_parameters()}
                cell.load_state_dict(own)
                h = c = hx[len(both) + layer * (1 + bidirectional), 0]
                outputs = []
                for frame in frames.flip(0) if d else frames:
                    met.setdefault(f"rnn.weight_hh_l{layer}{suffix}", []).append(h)
                    h, c = cell(frame, (h, c)) if cls is nn.LSTM else (cell(frame, h), c)
                    outputs.append(h)
                met.setdefault(f"rnn.weight_ih_l{layer}{suffix}", []).extend(frames)
                both.append(torch.stack(outputs[::-1] if d else outputs))
            frames = torch.cat(both, 1).detach()
    assert seen.uses == {name: len(rows) for name, rows in met.items()}
    for name, rows in met.items():
        close(seen.moments[name], mean_square([row.detach() for row in rows]))


def test_convolutions_are_used_once_per_output_position():
    model = nn.Sequential(nn.Conv1d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv1d(4, 6, 3))
    seen = observe(model, lambda: model(torch.randn(1, 3, 11)))
    assert seen.uses == {"0.weight": 5, "2.weight": 3} and seen.moments == {}
    square = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2))
    assert observe(square, lambda: square(torch.randn(1, 1, 11, 9))).uses == {"0.weight": 5 * 4}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_convolutions_meet_the_channels_at_every_output_position(stride, batched):
    torch.manual_seed(0)
    line, plane = nn.Conv1d(4, 6, 1, stride), nn.Conv2d(3, 5, 1, (stride, 1))
    x, z = torch.randn(4, 7), torch.randn(3, 6, 5)
    model = nn.ModuleList([line, plane])
    seen = observe(
        model, lambda: [line(x[None] if batched else x), plane(z[None] if batched else z)]
    )
    rows = [x[:, t] for t in range(0, 7, stride)]
    close(seen.moments["0.weight"], mean_square(rows))
    cells = [z[:, t, f] for t in range(0, 6, stride) for f in range(5)]
    close(seen.moments["1.weight"], mean_square(cells))
    assert seen.uses == {"0.weight": len(rows), "1.weight": len(cells)}


@pytest.mark.parametrize(
    "layer", [nn.RNN(5, 6, batch_first=True), nn.LSTM(5, 6, 2, proj_size=2, batch_first=True)]
)
def test_recurrent_layers_without_sites_are_counted(layer):
    seen = observe(nn.ModuleDict({"rnn": layer}), lambda: layer(torch.randn(1, 7, 5)))
    weights = {f"rnn.{name}": 7 for name, _ in layer.named_parameters() if "weight" in name}
    assert seen.uses == weights and seen.moments == {}


def test_reparametrised_weights_are_counted_under_a_name_that_the_model_has():
    model = nn.ModuleDict({
        "hook": nn.utils.weight_norm(nn.Linear(5, 5)),
        "norm": nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)),
        "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5)),
    })  # fmt: skip
    uses = observe(model, lambda: [m(torch.randn(3, 5)) for m in model.values()]).uses
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert [(sizes[name], count) for name, count in uses.items()] == [(25, 3)] * 3


def test_inputs_of_any_shape_type_and_name_are_rows():
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(5, 5).bfloat16()})
    inputs = [torch.randn(shape).bfloat16() for shape in ((5,), (2, 5), (2, 3, 5), (1, 2, 2, 5))]
    inputs.append(torch.zeros(0, 5).bfloat16())
    seen = observe(model, lambda: [model["a"](input=x) for x in inputs])
    rows = torch.cat([x.reshape(-1, 5) for x in inputs]).float()
    assert seen.uses == {"a.weight": len(rows)} and seen.moments["a.weight"].dtype == torch.float32
    close(seen.moments["a.weight"], mean_square(rows))


def test_uses_of_tied_weights_add_up_under_the_name_the_model_counts():
    model = nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(5, 5)})
    model["b"].weight = model["a"].weight
    x = torch.randn(1, 3, 5)
    seen = observe(model, lambda: model["b"](model["a"](x)))
    assert seen.uses == {"a.weight": 6}
    with torch.no_grad():
        close(seen.moments["a.weight"], mean_square([*x[0], *model["a"](x)[0]]))


def test_looking_up_is_no_product_and_a_tied_table_meets_what_its_linear_meets():
    model = nn.ModuleDict({"table": nn.Embedding(9, 6), "out": nn.Linear(6, 9)})
    tokens, h = torch.tensor([1, 2, 3]), torch.randn(4, 6)
    seen = observe(model, lambda: [model["table"](tokens), model["out"](h)])
    assert "table.weight" in {site.name for site in survey(model).sites}
    assert seen.uses == {"out.weight": 4} and seen.moments.keys() == {"out.weight"}
    model["out"].weight = model["table"].weight
    seen = observe(model, lambda: [model["table"](tokens), model["out"](h)])
    assert seen.uses == {"table.weight": 4}
    close(seen.moments["table.weight"], mean_square(h))


def three_linears():
    torch.manual_seed(0)
    return nn.ModuleDict({name: nn.Linear(5, 5) for name in "abc"})


def test_weights_that_are_given_the_same_tensors_share_a_moment():
    model, inputs, runs = three_linears(), list(torch.randn(3, 4, 5)), []

    def run():
        runs.append(1)
        for x in inputs:
            model["a"](x), model["b"](x), model["c"](x.clone())

    seen = observe(model, run)
    assert seen.moments["b.weight"] is seen.moments["a.weight"]
    assert seen.moments["c.weight"] is not seen.moments["a.weight"]
    for moment in seen.moments.values():
        close(moment, mean_square(torch.cat(inputs)))
    assert runs == [1]


def test_weights_that_shared_at_first_are_told_apart():
    model, first, other = three_linears(), torch.randn(4, 5), torch.randn(4, 5)

    def run():
        model["a"](first), model["b"](first), model["c"](first)
        model["a"](other), model["b"](first)

    seen = observe(model, run)
    close(seen.moments["a.weight"], mean_square(torch.cat([first, other])))
    close(seen.moments["b.weight"], mean_square(first))
    close(seen.moments["c.weight"], mean_square(first))
    assert seen.uses == {"a.weight": 8, "b.weight": 8, "c.weight": 4}


def test_weights_with_as_many_calls_of_other_tensors_are_told_apart():
    model, first, other = three_linears(), torch.randn(4, 5), torch.randn(4, 5)

    def run():
        model["a"](first), model["b"](first), model["b"](first), model["a"](other)

    seen = observe(model, run)
    close(seen.moments["a.weight"], mean_square(torch.cat([first, other])))
    close(seen.moments["b.weight"], mean_square(first))


def test_a_tensor_that_was_changed_in_place_is_another_input():
    model, before = three_linears(), torch.randn(4, 5)

    def run():
        x = before.clone()
        model["a"](x), model["b"](x.relu_())

    seen = observe(model, run)
    close(seen.moments["a.weight"], mean_square(before))
    close(seen.moments["b.weight"], mean_square(before.relu()))


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_of_wide_weights_the_moments_of_what_they_make_do_as_well(rank):
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(9, 4), "conv": nn.Conv1d(9, 4, 1)})
    x = torch.randn(2, 50, 9) @ torch.randn(9, 9)

    def run():
        for rows in x:
            model["a"](rows), model["conv"](rows.T[None])

    of_outputs, of_inputs = (
        collect(model, survey(model).sites, run, of_outputs=where).moments
        for where in (True, False)
    )
    assert of_outputs.keys() == of_inputs.keys() == {"a.weight", "conv.weight"}
    for name, moment in of_outputs.items():
        weight = dict(model.named_parameters())[name].flatten(1)
        assert moment.shape == (4, 4) and of_inputs[name].shape == (9, 9)
        found, wanted = decompose(weight, moment), decompose(weight, of_inputs[name])
        torch.testing.assert_close(found.energies, wanted.energies, rtol=1e-4, atol=0)
        torch.testing.assert_close(found.product(rank), wanted.product(rank), rtol=1e-3, atol=1e-5)
        # Scaled alike, too.
        sizes = [(d.U[:, :rank].norm(), d.V[:rank].norm()) for d in (found, wanted)]
        torch.testing.assert_close(*sizes, rtol=1e-4, atol=0)


def test_the_whole_toy_is_seen_and_left_without_hooks():
    model, (x, tokens) = toy(), utterance(12)
    sites = survey(model).sites
    seen = observe(model, lambda: model(x, tokens))
    assert seen.moments.keys() == {site.name for site in sites}
    assert set(seen.uses.values()) == {12}
    for site in sites:
        moment = seen.moments[site.name]
        wide = site.shape[1] > site.shape[0]
        assert moment.shape == (min(site.shape),) * 2
        assert moment.dtype == (torch.float64 if wide else torch.float32)
        close(moment, moment.T)
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_removed_when_the_pass_fails():
    model, (x, _) = toy(), utterance(3)
    with pytest.raises(IndexError):
        observe(model, lambda: model(x, [TOKENS] * 3))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 1, 5), (1, 2, 5)])
def test_more_than_one_utterance_at_a_time_is_refused(shape, batch_first):
    lstm = nn.LSTM(5, 6, batch_first=batch_first)
    x = torch.randn(shape)
    utterances = shape[0 if batch_first else 1]
    model = nn.ModuleDict({"rnn": lstm})
    if utterances == 1:
        assert observe(model, lambda: lstm(x)).uses["rnn.weight_ih_l0"] == 2
        return
    with pytest.raises(ValueError, match="one utterance at a time"):
        observe(model, lambda: lstm(x))
    lengths = torch.ones(utterances, dtype=torch.long)
    with pytest.raises(ValueError, match="one utterance at a time"):
        observe(model, lambda: lstm(pack_padded_sequence(x, lengths, batch_first)))
