"""Whitening hears training audio; the proxy set's own only where there is none, and says so."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import SEARCH

from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract, extract_all
from espnet_shrink.data.moment_data import training_recordings
from espnet_shrink.methods.lowrank.analysis import analyse, observe
from espnet_shrink.methods.lowrank.decompositions import decompose_sites
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.search.settings import SearchSettings

SAID = "whitening by the proxy set's own activations, not by training audio: "


def test_sites_are_whitened_by_what_was_heard_and_priced_by_the_proxy_set(baseline):
    proxy = extract(baseline, "dump/raw/dev")
    heard = extract_all(baseline, training_recordings(baseline, {}, 7, SearchSettings(seed=1)))
    found, own = analyse(baseline, proxy, "whitened", heard), analyse(baseline, proxy, "whitened")
    sites = survey(baseline.model)
    moments = observe(baseline, sites, heard).moments
    wanted = decompose_sites(dict(baseline.model.named_parameters()), sites.sites, moments)
    for name, by_proxy in own.decompositions.items():
        assert torch.equal(found.decompositions[name].U, wanted[name].U)
        assert not torch.equal(found.decompositions[name].U, by_proxy.U)
    assert found.cost_model == own.cost_model


def test_they_are_drawn_from_the_training_data_by_the_seed(baseline):
    names = [
        {u.name for u in training_recordings(baseline, {}, 9, SearchSettings(seed=seed))}
        for seed in (1, 1, 2)
    ]
    assert names[0] == names[1] != names[2] and all(len(n) == 9 for n in names)
    assert all(name.startswith("train") for name in names[0] | names[2])
    named = [["wav.scp", "speech", "sound"], ["text", "text", "text"]]
    other = {
        "train_data_path_and_name_and_type": [
            [f"dump/raw/test/{file}", name, kind] for file, name, kind in named
        ]
    }
    assert len(training_recordings(baseline, other, 100, SearchSettings())) == 6


def lose(what: str) -> None:
    train = Path("dump/raw/train")
    if what == "folder":
        train.rename("elsewhere")
    elif what == "audio":
        for path in Path("wav").glob("train*"):
            path.unlink()
    elif what == "twice":
        with (train / "text").open("a") as text:
            text.write((train / "text").read_text())
    elif what == "entries":
        config = read_yaml("exp/asr/config.yaml")
        config["train_data_path_and_name_and_type"] = []
        Path("exp/asr/config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("lost", ["folder", "audio", "entries", "twice", None])
def test_a_search_without_training_audio_says_what_it_takes(lost, recipe, shrink):
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 8}))
    lose(lost)
    arguments = ["--exp", "exp/asr", "--proxy", "dump/raw/test", "--data", "dump/raw/test"]
    arguments += ["--search_config", "search.yaml", "--target", 2, "--out", "out"]
    done = shrink("search", *arguments)
    assert done.status == 0, done
    assert done.out.count(SAID) == (lost is not None)
    heard = read_yaml("out/settings.yaml")["whitened_by"]
    assert len(heard) == (6 if lost is None else 0)
    assert all(name.startswith("train") for name in heard)
