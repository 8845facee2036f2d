"""The compiled LSTM: torch's results, in any form of input, from any thread and process."""

import itertools
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from toy import close

from espnet_shrink.layers import (
    LowRankLSTM,
    LowRankLSTMCell,
    inference,
    kernel,
)

IN, H = 13, 21
LENGTHS = {"batch": [9, 9, 9], "packed": [9, 7, 7, 2], "unsorted": [2, 9, 1, 7], "one": [9]}


@pytest.fixture
def calls(monkeypatch):
    """Every call of the kernel: how many steps, and whether backwards."""
    found, run = [], kernel.lstm_frames

    def counted(gates, v, u, scale, batch_sizes, h, c, y, reverse):
        found.append((len(batch_sizes), reverse))
        run(gates, v, u, scale, batch_sizes, h, c, y, reverse)

    monkeypatch.setattr(kernel, "lstm_frames", counted)
    return found


def factored(ranks=(3, 6), **options):
    """(input rank, recurrent rank); None is dense."""
    options = {"num_layers": 2, "bidirectional": True, **options}
    dense = nn.LSTM(IN, H, **options)
    names = [n for n, _ in dense.named_parameters() if n.startswith("weight")]
    by_name = {n: ranks[0] if "_ih_" in n else ranks[1] for n in names}
    return LowRankLSTM(IN, H, ranks={n: r for n, r in by_name.items() if r}, **options).eval()


def given(kind, batch_first=False):
    lengths = LENGTHS[kind]
    shape = (len(lengths), max(lengths)) if batch_first else (max(lengths), len(lengths))
    x = torch.randn(*shape, IN)
    if kind in ("batch", "one"):
        return x
    return pack_padded_sequence(
        x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=kind == "packed"
    )


def output(lstm, x, hx=None):
    y, state = lstm(x, hx)
    return (y.data if isinstance(y, PackedSequence) else y), *state


CASES = list(itertools.product(LENGTHS, [(3, 6), (None, 7), (5, 1)], [False, True], [True, False]))


@pytest.mark.parametrize(("kind", "ranks", "batch_first", "bias"), CASES)
def test_equals_torch(kind, ranks, batch_first, bias, calls):
    torch.manual_seed(0)
    lstm = factored(ranks, batch_first=batch_first, bias=bias)
    x, hx = given(kind, batch_first), None
    if batch_first:  # with states of its own
        hx = tuple(torch.randn(4, len(LENGTHS[kind]), H) for _ in range(2))
    with torch.no_grad():
        found, expected = output(lstm, x, hx), output(lstm.to_dense(), x, hx)
    assert [reverse for _, reverse in calls] == [False, True] * 2
    close(found, expected, 2e-6)


def test_saturated_gates_and_nan_are_torchs():
    torch.manual_seed(1)
    lstm = factored(num_layers=1, bidirectional=False)
    x = given("batch") * 1e4
    with torch.no_grad():
        close(output(lstm, x), output(lstm.to_dense(), x), 1e-4)  # sums of 1e4 round by 1e-3
        x[4, 1, 2] = torch.nan
        found, expected = lstm(x)[0], lstm.to_dense()(x)[0]
    assert torch.equal(found.isnan(), expected.isnan()) and found.isnan().any()


@pytest.mark.parametrize("rows", [1, 5, 7])
def test_blocks_change_nothing(rows, calls, monkeypatch):
    torch.manual_seed(2)
    lstm, x = factored(), given("unsorted")
    with torch.no_grad():
        expected = output(lstm, x)
        calls.clear()
        monkeypatch.setattr(inference, "GATE_FLOATS", rows * 4 * H)
        found = output(lstm, x)
    assert len(calls) > 4 and sum(steps for steps, _ in calls) == 4 * 9
    close(found, expected, 2e-6)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_streaming_in_chunks_is_the_whole(chunk):
    torch.manual_seed(3)
    lstm, x = factored(bidirectional=False), given("batch")
    with torch.no_grad():
        whole, *state = output(lstm, x)
        parts, hx = [], None
        for piece in x.split(chunk):
            part, hx = lstm(piece, hx)
            parts.append(part)
    close((torch.cat(parts), *hx), (whole, *state), 2e-6)


def test_only_where_it_is_faster(calls):
    """Ranks above a third of H, but for one sequence; and a dense recurrence never."""
    torch.manual_seed(4)
    with torch.no_grad():
        for kind, ranks, runs in [("batch", (3, 7), 4), ("batch", (3, 8), 0), ("packed", (3, 8), 0),
                                  ("one", (3, 16), 4), ("one", (3, None), 0)]:  # fmt: skip
            calls.clear()
            factored(ranks)(given(kind))
            assert len(calls) == runs, (kind, ranks)


def test_not_in_training_nor_while_tracing(calls):
    torch.manual_seed(5)
    lstm, x = factored(), given("batch")
    lstm(x)[0].sum().backward()
    assert all(p.grad is not None for p in lstm.parameters())
    with torch.no_grad():
        traced = torch.jit.trace(lstm, x, check_trace=False)
        lstm.to(torch.float64)(x.double())
        assert not calls
        lstm.float()
        close(traced(x)[0], lstm(x)[0], 2e-6)
    assert calls


def test_two_threads_compute_the_same(monkeypatch):
    torch.manual_seed(6)
    monkeypatch.setattr(inference, "LEAST_MACS", 0)
    lstm, x = factored(), given("packed")
    threads = torch.get_num_threads()
    with torch.no_grad():
        torch.set_num_threads(1)
        one = output(lstm, x)
        torch.set_num_threads(2)
        two = output(lstm, x)
        torch.set_num_threads(threads)
        close(two, one, 0.0)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: unrecorded(lstm, x), range(8)):
                close(found, one, 2e-6)


def test_short_calls_stay_on_one_thread(monkeypatch):
    asked = []
    monkeypatch.setattr(inference, "_threads", lambda process: asked.append(process) or Inline())
    lstm, x = factored(num_layers=1), given("one")
    macs = 9 * 5 * H * 6
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for least, calls in ((macs, 0), (macs - 1, 1)):
            monkeypatch.setattr(inference, "LEAST_MACS", least)
            unrecorded(lstm, x)
            assert len(asked) == calls
    finally:
        torch.set_num_threads(threads)


class Inline:
    """An executor that starts no thread."""

    map = staticmethod(map)


def unrecorded(lstm, x):
    with torch.no_grad():
        return output(lstm, x)


def test_a_forked_process_computes_the_same(monkeypatch):
    torch.manual_seed(7)
    monkeypatch.setattr(inference, "LEAST_MACS", 0)
    lstm, x = factored(), given("packed")
    threads = torch.get_num_threads()
    # torch's own threads do not survive a fork on every processor; ours must.
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    try:
        expected = unrecorded(lstm, x)  # leaves threads that the child will not have
        assert inference._threads.cache_info().currsize
        receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)

        def child():
            send.send([t.tolist() for t in unrecorded(lstm, x)])

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        assert receive.poll(60), "the forked process hangs"
        close(tuple(map(torch.tensor, receive.recv())), expected, 2e-6)
        process.join()
    finally:
        torch.set_num_threads(threads)


# --- a few rows: a step of beam search ---


@pytest.fixture
def compiled(monkeypatch):
    """Batch sizes of the compiled steps."""
    found, run = [], kernel.lstm_cell

    def counted(x, *others):
        found.append(len(x))
        return run(x, *others)

    monkeypatch.setattr(kernel, "lstm_cell", counted)
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ranks", [(3, 5), (None, 6), (7, None), (None, None), (1, 13)])
@pytest.mark.parametrize("batch", [1, 3, inference.FEW_ROWS + 1])
@torch.no_grad()
def test_a_cell_equals_torchs(batch, ranks, bias, compiled):
    torch.manual_seed(8)
    names = ("weight_ih", "weight_hh")
    given = {name: rank for name, rank in zip(names, ranks, strict=True) if rank}
    cell = LowRankLSTMCell(IN, H, bias, given)
    x, hx = torch.randn(batch, IN), (torch.randn(batch, H), torch.randn(batch, H))
    before = [t.clone() for t in (x, *hx)]
    for state in (None, hx):
        close(cell(x, state), cell.to_dense()(x, state), 2e-6)
    assert compiled == ([batch] * 2 if batch <= inference.FEW_ROWS else [])
    assert all(map(torch.equal, (x, *hx), before))


def test_a_step_in_training_is_torchs(compiled):
    cell = LowRankLSTMCell(IN, H, ranks={"weight_hh": 2})
    cell(torch.randn(2, IN))[0].sum().backward()
    assert all(p.grad is not None for p in cell.parameters()) and not compiled


@pytest.mark.parametrize("ranks", [(3, 5), (None, 6), (7, None)])
@torch.no_grad()
def test_a_layers_single_frame_is_a_step_for_each_direction(ranks, compiled):
    torch.manual_seed(10)
    lstm, x = factored(ranks), torch.randn(1, 3, IN)
    close(output(lstm, x), output(lstm.to_dense(), x), 2e-6)
    assert compiled == [3] * 4
    lstm(torch.randn(1, inference.FEW_ROWS + 1, IN))
    assert len(compiled) == 4


# --- counts, that no loop over frames comes back ---


class Count(TorchDispatchMode):
    """How many of torch's operations run; ways from and to numpy are none."""

    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += func not in (torch.ops.aten.detach.default, torch.ops.aten.lift_fresh.default)
        return func(*args, **(kwargs or {}))


def operations(call) -> int:
    call()
    with Count() as count:
        call()
    return count.calls


@pytest.mark.parametrize("ranks", [(3, 6), (None, 7), (5, None)])
@pytest.mark.parametrize("training", [False, True])
def test_the_number_of_operations_does_not_grow_with_the_frames(ranks, training):
    lstm = factored(ranks)
    counts = []
    for frames in (8, 80):
        lengths = torch.tensor([frames, frames // 2])
        packed = pack_padded_sequence(torch.randn(frames, 2, IN), lengths)
        with torch.set_grad_enabled(training):
            counts.append(operations(lambda packed=packed: lstm(packed)))
    assert counts[0] == counts[1]


@torch.no_grad()
def test_a_compiled_step_is_no_operation_of_torchs():
    cell = LowRankLSTMCell(IN, H, ranks={"weight_ih": 3, "weight_hh": 5})
    x, hx = torch.randn(2, IN), (torch.randn(2, H), torch.randn(2, H))
    assert operations(lambda: cell(x, hx)) == 0
    assert operations(lambda: LowRankLSTMCell.forward(cell.double(), x.double(), None)) > 10
