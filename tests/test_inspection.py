"""`espnet-shrink inspect`: its numbers against counts by hand, of models of any kind."""

import dataclasses
import json
import os
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
import yaml
from architectures import make
from conftest import compress, tree
from packing import MODEL
from test_espnet_cost import macs_by_hand

from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.build import plan_of
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.pipeline.inspection import inspect_model, spectrum
from espnet_shrink.plan import DENSE, Plan, dense_plan
from espnet_shrink.report.inspected import inspection_text
from espnet_shrink.report.inspection import energy_rank
from espnet_shrink.report.spectra import plot_spectra


@pytest.fixture
def inspect(shrink):
    """Call the verb with --json; gives the document."""

    def call(*arguments: object) -> dict:
        ended = shrink("inspect", *arguments, "--json")
        assert ended.status == 0 and ended.err == "", ended
        return json.loads(ended.out)

    return call


def params(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- energy ---


def with_singular_values(values: list[float], shape: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sides = [torch.linalg.qr(torch.randn(n, n, generator=generator).double())[0] for n in shape]
    left, right = (side[:, : len(values)] for side in sides)
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T


@pytest.mark.parametrize("shape", [(6, 4), (4, 9), (4, 4)])
def test_energy_ranks_of_known_singular_values(shape):
    """Squares 90, 5, 4 and 1: rank 1 keeps exactly 90 %, rank 2 95 %, rank 3 99 %."""
    weight = with_singular_values([90**0.5, 5**0.5, 2, 1], shape)
    energies = spectrum(Site("w", shape, "linear"), weight)
    np.testing.assert_allclose(energies, [90, 5, 4, 1], rtol=1e-9)
    assert [energy_rank(energies, share) for share in (0.9, 0.95, 0.99, 1.0)] == [1, 2, 3, 4]
    assert [energy_rank(energies, share) for share in (0.5, 0.901, 0.951, 0.991)] == [1, 2, 3, 4]


def test_a_matrix_of_lower_rank_needs_no_more_and_one_of_zeros_rank_1():
    site = Site("w", (6, 5), "linear")
    energies = spectrum(site, with_singular_values([2, 1, 1], (6, 5)))
    assert [energy_rank(energies, share) for share in (0.66, 0.67, 0.99, 1.0)] == [1, 2, 3, 3]
    assert energy_rank(spectrum(site, torch.zeros(6, 5)), 0.99) == 1


def test_a_weight_that_is_not_finite_is_named():
    with pytest.raises(ShrinkError, match="^encoder.w holds values that are not finite"):
        spectrum(Site("encoder.w", (1, 2), "linear"), torch.tensor([[1.0, torch.nan]]))


# --- any model, through the verb ---


@pytest.mark.parametrize("name", ["rnn", "conformer", "lm_gru_tied", "s2t"])
def test_every_parameter_is_there_once_and_every_number_is_that_of_the_matrix(
    name, tmp_path, inspect
):
    loaded = make(name, tmp_path / "exp")
    found = inspect(tmp_path / "exp")
    assert (found["model"], found["checkpoint"]) == (str(tmp_path / "exp"), "valid.acc.ave.pth")
    assert found["task"] == loaded.task.name
    parameters = dict(loaded.model.named_parameters())
    sites, others, totals = found["sites"], found["uncompressed"], found["totals"]
    assert sorted(x["name"] for x in sites + others) == sorted(parameters)
    assert sum(x["params"] for x in sites + others) == totals["params"] == params(loaded.model)
    assert totals["compression"] == 1
    assert totals["size_mib"] == pytest.approx(totals["params"] * 4 / 1024**2)
    in_sites = sum(site["params"] for site in sites)
    assert sum(s["share"] for s in sites) == pytest.approx(in_sites / totals["params"])
    assert all(other["reason"] and other["params"] for other in others)
    for site in sites:
        weight = parameters[site["name"]].detach().flatten(1).double().numpy()
        assert site["shape"] == list(weight.shape) and site["params"] == weight.size
        assert site["rank"] == "dense"
        squares = np.linalg.svd(weight)[1] ** 2
        for percent, rank in site["energy_ranks"].items():
            wanted = float(percent) / 100 * squares.sum()
            assert squares[: rank - 1].sum() < wanted <= squares[:rank].sum() * (1 + 1e-6)
        # Factors of the break-even rank are smaller than the matrix, and of the next rank not.
        rank, rows_and_columns = site["break_even_rank"], sum(weight.shape)
        assert rank * rows_and_columns < weight.size <= (rank + 1) * rows_and_columns
        assert list(site["energy_ranks"]) == ["90", "95", "99"]
    macs = {key for key in totals if key.startswith("macs_per")}
    assert macs == {"macs_per_token" if name.startswith("lm_") else "macs_per_audio_second"}


def test_the_text_names_every_site_every_reason_and_the_totals(tmp_path, shrink):
    loaded = make("conformer", tmp_path / "exp")
    ended = shrink("inspect", tmp_path / "exp/valid.acc.ave.pth")
    assert ended.status == 0 and ended.err == ""
    lines = ended.out.splitlines()
    found = survey(loaded.model)
    for site in found.sites:
        (line,) = (line for line in lines if line.startswith(site.name))
        assert line.split()[1:3] == [site.kind, "x".join(map(str, site.shape))]
        assert len(line.split()) == 9  # no column of ranks
    for other in found.uncompressed:
        named = [line for line in lines if line.startswith(f"not compressed: {other.name} ")]
        assert len(named) == (len(other.shape) > 1)
        assert all(line.endswith(other.reason) for line in named)
    assert any(line.split() == ["parameters", f"{params(loaded.model):,}"] for line in lines)
    assert "10 s of faint noise and a text of 30 tokens" in lines[-1]
    assert not any(line.startswith("compression") for line in lines)


def test_names_are_cut_only_for_a_terminal_that_is_too_narrow(tmp_path):
    inspection = inspect_model(make("conformer", tmp_path / "exp"), "exp")
    longest = max(len(site.name) for site in inspection.sites)
    assert longest > 44

    def table(columns: int | None) -> list[str]:
        return inspection_text(inspection, columns).split("\n\n")[1].splitlines()

    whole = table(None)
    assert len(set(map(len, whole))) == 1  # aligned
    width = len(whole[0])
    assert table(width) == whole and "…" not in "".join(whole)
    narrow = table(width - 5)
    assert {len(line) for line in narrow} == {width - 5}
    assert len({line.split()[0] for line in narrow}) == len(narrow)  # no two names became one


# --- what it costs ---


def test_macs_of_a_recogniser_are_those_counted_by_hand(tmp_path, inspect):
    """The model of rnn.yaml is that of conftest.CONFIG: 10 s are 1001 frames of 10 ms."""
    make("rnn", tmp_path / "exp")
    seen = FeatureSet([], [torch.zeros(1001, 20)], [[1] * 30], [10.0])
    found = inspect(tmp_path / "exp")["totals"]["macs_per_audio_second"]
    assert found == pytest.approx(macs_by_hand(seen), rel=1e-9)


def test_macs_of_a_language_model_are_its_matrices(tmp_path, inspect):
    make("lm_gru_tied", tmp_path / "exp")
    found = inspect(tmp_path / "exp")["totals"]
    layers, hidden, vocabulary = 2, 16, 30
    # The output matrix is the embedding; looking up multiplies nothing.
    by_hand = layers * 2 * 3 * hidden * hidden + vocabulary * hidden
    assert found["macs_per_token"] == by_hand


def test_a_model_that_knows_one_length_pays_for_all_of_it(tmp_path, inspect):
    make("s2t", tmp_path / "exp")
    short = inspect(tmp_path / "exp")["totals"]
    assert "over 2 s of" in short["macs_over"] and "6 tokens" in short["macs_over"]
    config = read_yaml(tmp_path / "exp/config.yaml")
    config["preprocessor_conf"]["speech_length"] = 30
    (tmp_path / "exp/config.yaml").write_text(yaml.safe_dump(config))
    long = inspect(tmp_path / "exp")["totals"]
    assert "over 10 s of" in long["macs_over"] and "padded to 30 s" in long["macs_over"]
    assert 2 < long["macs_per_audio_second"] / short["macs_per_audio_second"] < 3.1


def test_a_model_that_is_given_features_is_given_noise_of_its_size(tmp_path, inspect):
    make("rnn", tmp_path / "exp")
    with_frontend = inspect(tmp_path / "exp")["totals"]
    config = {**read_yaml(tmp_path / "exp/config.yaml"), "frontend": None, "input_size": 20}
    (tmp_path / "exp/config.yaml").write_text(yaml.safe_dump(config))
    state = torch.load(tmp_path / "exp/valid.acc.ave.pth", weights_only=True)
    state = {name: x for name, x in state.items() if not name.startswith("frontend.")}
    torch.save(state, tmp_path / "exp/valid.acc.ave.pth")
    found = inspect(tmp_path / "exp")["totals"]
    assert "100 frames of features a second" in found["macs_over"]
    # 1000 frames instead of 1001.
    assert found["macs_per_audio_second"] == pytest.approx(
        with_frontend["macs_per_audio_second"], rel=2e-3
    )


def test_sizes_are_those_on_disk_and_of_espnets_quantised_model(tmp_path, inspect):
    loaded = make("conformer", tmp_path / "exp")
    state = loaded.model.state_dict()
    half = "encoder.encoders.0.feed_forward.w_1.weight"
    state[half] = state[half].half()
    torch.save(state, tmp_path / "exp/valid.acc.ave.pth")
    totals = inspect(tmp_path / "exp")["totals"]
    numbers, halves = params(loaded.model), state[half].numel()
    mib = {"float32": 4 * (numbers - halves) / 2**20, "float16": 2 * halves / 2**20}
    assert totals["stored_mib"] == pytest.approx(mib)
    buffers = dict(loaded.model.named_buffers())
    counts = [x for x in buffers.values() if x.dtype == torch.int64]  # of batch norm
    assert totals["buffers_mib"]["int64"] == 8 * len(counts) / 2**20 > 0
    # Every Linear is a byte per number and one scale and zero point, of 8 bytes each.
    linears = [m.weight for m in loaded.model.modules() if type(m) is torch.nn.Linear]
    in_8_bits = sum(w.numel() + 16 for w in linears)
    assert (totals["int8_size_mib"] - totals["int8_float_mib"]) * 2**20 == pytest.approx(in_8_bits)
    bytes_before = sum(x.numel() * x.element_size() for x in loaded.model.state_dict().values())
    stays = bytes_before - 4 * sum(w.numel() for w in linears)
    assert totals["int8_float_mib"] * 2**20 == pytest.approx(stays)


# --- a compressed model ---


def test_a_compressed_model_has_its_ranks_and_real_parameters(baseline, small, inspect):
    before, after = inspect("exp/asr"), inspect("exp/small")
    plan, sites = plan_of(small.model), after["sites"]
    keys = ("name", "kind", "shape", "break_even_rank")
    assert [[s[k] for k in keys] for s in sites] == [[s[k] for k in keys] for s in before["sites"]]
    assert {site["name"]: site["rank"] for site in sites} == plan.ranks
    for site, dense in zip(sites, before["sites"], strict=True):
        if site["rank"] == DENSE:
            assert (site["params"], site["energy_ranks"]) == (
                dense["params"], dense["energy_ranks"]
            )  # fmt: skip
        else:
            assert site["params"] == site["rank"] * sum(site["shape"])
            assert max(site["energy_ranks"].values()) <= site["rank"]
    totals = after["totals"]
    everything = sites + after["uncompressed"]
    assert sum(x["params"] for x in everything) == totals["params"] == params(small.model)
    assert totals["compression"] == params(baseline.model) / params(small.model) > 1
    in_sites = sum(site["params"] for site in sites)
    assert sum(s["share"] for s in sites) == pytest.approx(in_sites / totals["params"])
    assert sum(totals["stored_mib"].values()) == pytest.approx(totals["size_mib"])


def test_a_factorised_site_saves_its_macs_in_every_frame(baseline, inspect):
    name, rank = "encoder.enc.0.birnn0.weight_ih_l0", 3
    plan = dense_plan(survey(baseline.model).sites)
    compress(baseline, Plan({**plan.ranks, name: rank}), Path("exp/one"))
    before, after = (inspect(f"exp/{x}")["totals"]["macs_per_audio_second"] for x in ("asr", "one"))
    rows, columns = dict(baseline.model.named_parameters())[name].shape
    saved = rows * columns - rank * (rows + columns)
    assert before - after == pytest.approx(saved * 1001 / 10)


def test_the_text_of_a_compressed_model_has_a_column_of_ranks(small, shrink):
    ended = shrink("inspect", "exp/small")
    assert ended.status == 0
    header, _, *rows = ended.out.split("\n\n")[1].splitlines()
    assert header.split()[-2:] == ["break-even", "rank"]
    ranks = {row.split()[0]: row.split()[-1] for row in rows}
    assert ranks == {name: str(rank) for name, rank in plan_of(small.model).ranks.items()}
    assert "\ncompression " in ended.out


# --- wherever it is ---


def test_a_packed_model_is_inspected_and_leaves_nothing_behind(
    packed, inspect, monkeypatch, tmp_path
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    found = inspect(packed / "model.zip")
    assert found["model"] == str(packed / "model.zip")
    assert not tree(Path.cwd()) and not list((tmp_path / "tmp").iterdir())
    monkeypatch.chdir(packed)  # the paths in its config are relative to the recipe's folder
    there = inspect(MODEL)
    for key in ("sites", "uncompressed", "totals"):
        assert found[key] == there[key]


def test_a_checkpoint_is_chosen_by_name(recipe, inspect, shrink):
    state = torch.load("exp/asr/valid.acc.ave.pth", weights_only=True)
    name = "ctc.ctc_lo.weight"
    state[name] = with_singular_values([1.0], tuple(state[name].shape)).float()
    torch.save(state, "exp/asr/other.pth")
    found = inspect("exp/asr", "--checkpoint", "other.pth")
    assert found["checkpoint"] == "other.pth"
    (site,) = (site for site in found["sites"] if site["name"] == name)
    assert site["energy_ranks"] == {"90": 1, "95": 1, "99": 1}


# --- the plot ---


def test_the_plot_is_written_beside_the_json_and_shows_every_site(recipe, inspect):
    found = inspect("exp/asr", "--plot", "plots/spectra.png")
    pixels = matplotlib.image.imread("plots/spectra.png")[:, :, :3]
    assert pixels.shape[1] == 1600
    ink = (pixels < 0.9).any(axis=2)
    assert 0.01 < ink.mean() < 0.5
    # A frame of white: nothing is clipped.
    assert not (ink[0].any() or ink[-1].any() or ink[:, 0].any() or ink[:, -1].any())
    assert len(found["sites"]) > 8


def test_a_panel_per_kind_and_a_line_per_site(tmp_path):
    inspection = inspect_model(make("conformer", tmp_path / "exp"), "exp")
    plot_spectra(inspection, tmp_path / "spectra.svg")
    few = dataclasses.replace(inspection, sites=inspection.sites[:3])
    plot_spectra(few, tmp_path / "few.svg")
    # Lines of that width are the curves of sites.
    counts = [
        (tmp_path / name).read_text().count("stroke-width: 0.9;")
        for name in ("spectra.svg", "few.svg")
    ]
    assert counts == [len(inspection.sites), 3]


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["exp/none"], "no such file or folder, and not a model tag: exp/none"),
        (["exp/none.zip"], "no such file or folder, and not a model tag: exp/none.zip"),
        (["exp/asr", "--checkpoint", "9.pth"], "exp/asr has no 9.pth"),
        (["train.yaml"], "has no"),
        (["dump/raw/dev/text"], "no experiment folder, config.yaml, checkpoint"),
        # A plot that cannot be is refused before the model is looked at.
        (["exp/none", "--plot", "plot.doc"], "--plot plot.doc: no plot format has the suffix .doc"),
        (["exp/none", "--plot", "plot"], "no plot format has the suffix (none): choose of"),
        (["exp/none", "--plot", "folder.png"], "--plot folder.png cannot be written"),
        (["exp/none", "--plot", "train.yaml/x.png"], "--plot train.yaml/x.png cannot be written"),
        (["exp/asr", "--plot", "/proc/x.png"], "/proc/x.png"),
    ],
)
def test_bad_input_is_one_line(recipe, shrink, arguments, named):
    Path("folder.png").mkdir()
    before = tree(recipe)
    ended = shrink("inspect", *arguments)
    assert ended.status == 2 and ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("espnet-shrink inspect: ") and named in line
    assert tree(recipe) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_plot_in_a_folder_that_may_not_be_written_to(recipe, shrink):
    Path("closed").mkdir(mode=0o500)
    ended = shrink("inspect", "exp/none", "--plot", "closed/plot.png")
    assert ended.status == 2 and "closed/plot.png cannot be written" in ended.err


def test_a_model_that_diverged_is_one_line(recipe, shrink):
    state = torch.load("exp/asr/valid.acc.ave.pth", weights_only=True)
    state["decoder.output.weight"][0, 0] = torch.nan
    torch.save(state, "exp/asr/diverged.pth")
    ended = shrink("inspect", "exp/asr", "--checkpoint", "diverged.pth")
    assert ended.status == 2 and ended.out == ""
    assert "decoder.output.weight holds values that are not finite" in ended.err


def test_times_are_measured_only_when_asked_for(small, shrink, inspect, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = inspect("exp/small")
    assert "rtf" not in plain["totals"] and not (tmp_path / "cache").exists()
    timed = inspect("exp/small", "--latency")
    assert timed["totals"]["rtf"] >= sum(site["rtf"] for site in timed["sites"]) > 0
    for site, before in zip(timed["sites"], plain["sites"], strict=True):
        assert 0 <= site["fast_rank"] <= site["break_even_rank"] and "rtf" not in before
    shown = shrink("inspect", "exp/small", "--latency").out
    assert "faster up to" in shown and f"RTF          {timed['totals']['rtf']:.4f}" in shown


def test_a_language_model_is_not_timed(tmp_path, shrink):
    make("lm_gru_tied", tmp_path / "exp")
    refused = shrink("inspect", tmp_path / "exp", "--latency")
    assert refused.status == 2 and "language models are not timed" in refused.err
