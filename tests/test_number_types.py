"""Checkpoints of half the width: what is not trained keeps their type, and sizes say so."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from architectures import make
from conftest import ROUNDS, SEARCH

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.core.checkpoints import stored_like
from espnet_shrink.core.files import read_yaml
from espnet_shrink.layers.quantised import quantised_sizes


def halve(path: Path, dtype: torch.dtype) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}, path)


def types(path: Path) -> set[torch.dtype]:
    state = torch.load(path, weights_only=True)
    return {v.dtype for v in state.values() if v.is_floating_point()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_that_is_not_retrained_keeps_its_type(dtype, recipe, shrink):
    halve(Path("exp/asr/valid.acc.ave.pth").resolve(), dtype)
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 10}))
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--out", "out", "--no-retrain",
                  "--target", "1.6", "--search_config", "search.yaml")  # fmt: skip
    assert done.status == 0, done
    config, checkpoint = find_model("out/round1")
    assert types(checkpoint) == {dtype}
    record = read_yaml("out/round1/round.yaml")
    assert record["size_mib"] == pytest.approx(record["params"] * 2 / 2**20)
    baseline = read_yaml("out/rounds.yaml")["baseline"]
    assert baseline["size_mib"] == pytest.approx(baseline["params"] * 2 / 2**20)
    shown = json.loads(shrink("inspect", "out/round1", "--json").out)["totals"]
    assert sum(shown["stored_mib"].values()) == pytest.approx(record["size_mib"])
    dense = shrink("export", "--exp", "out/round1", "--dense", "--out", "dense")
    assert dense.status == 0 and types(find_model("dense")[1]) == {dtype}
    folded = load_model(*find_model("dense")).model.state_dict()
    assert all(v.dtype == torch.float32 for v in folded.values() if v.is_floating_point())


@pytest.mark.slow
def test_what_is_retrained_is_float32_and_that_is_said(recipe, shrink):
    halve(Path("exp/asr/valid.acc.ave.pth").resolve(), torch.float16)
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 8}))
    Path("rounds.yaml").write_text(yaml.safe_dump(
        {**ROUNDS, "step": 2.0, "final_epochs": 1, "control": False}))  # fmt: skip
    assert shrink("proxy", "--exp", "exp/asr", "--data", "dump/raw/dev", "--size", 6,
                  "--out", "small/proxy").status == 0  # fmt: skip
    done = shrink("rounds", "--exp", "exp/asr", "--out", "small", "--proxy", "small/proxy",
                  "--data", "dump/raw/dev", "--rounds_config", "rounds.yaml", "--search_config",
                  "search.yaml")  # fmt: skip
    assert done.status == 0, done
    assert done.out.count("the checkpoint holds float16: what is retrained is float32") == 1
    assert types(find_model("small/round1")[1]) == {torch.float32}
    record = read_yaml("small/round1/round.yaml")
    assert record["size_mib"] == pytest.approx(record["params"] * 4 / 2**20)
    baseline = read_yaml("small/rounds.yaml")["baseline"]
    assert baseline["size_mib"] == pytest.approx(baseline["params"] * 2 / 2**20)


def test_types_follow_the_names_and_ties_stay(tmp_path):
    shared, half = torch.randn(3, 2), torch.zeros(2, dtype=torch.float16)
    torch.save({"w": half, "norm": torch.zeros(2), "b": half, "n": torch.tensor(1)},
               tmp_path / "base.pth")  # fmt: skip
    state = {"w_U": shared, "other_U": shared, "norm": torch.ones(2), "n": torch.tensor(2)}
    stored = stored_like(state, tmp_path / "base.pth")
    assert {k: v.dtype for k, v in stored.items()} == {
        "w_U": torch.float16, "other_U": torch.float16, "norm": torch.float32, "n": torch.int64,
    }  # fmt: skip
    assert stored["w_U"].data_ptr() == stored["other_U"].data_ptr()
    assert stored["norm"] is state["norm"]


def test_what_is_tied_is_weighed_once_in_8_bits(tmp_path):
    loaded = make("transformer", tmp_path / "exp")
    model = loaded.model
    before = quantised_sizes(model)
    table = model.decoder.embed[0]
    model.another = torch.nn.Embedding(*table.weight.shape)
    model.another.weight = table.weight
    model.buffers_too = torch.nn.Module()
    statistics = torch.ones(5, 7)
    for module in (model, model.buffers_too):
        module.register_buffer("statistics", statistics)
    after = quantised_sizes(model)
    assert after.int8_mib == before.int8_mib
    assert (after.float_mib - before.float_mib) * 2**20 == statistics.numel() * 4  # once
    table.weight = torch.nn.Parameter(table.weight.detach().clone())  # no longer tied
    untied = (quantised_sizes(model).float_mib - after.float_mib) * 2**20
    assert untied == table.weight.numel() * 4
