"""A model compressed under one ESPnet loads and decodes the same under the other."""

import json
from pathlib import Path

import pytest
from test_architectures import hypotheses

from espnet_shrink.compat.models import load_model
from espnet_shrink.methods.lowrank.build import plan_of
from espnet_shrink.sources import open_source

MADE = sorted((Path(__file__).parent / "both_espnets").glob("*.zip"))


@pytest.mark.parametrize("archive", MADE, ids=lambda path: path.stem)
def test_it_decodes_what_the_espnet_that_made_it_decoded(archive, tmp_path):
    source = open_source(str(archive), tmp_path / "exp")
    loaded = load_model(source.config, source.checkpoint)
    assert plan_of(loaded.model).factored
    expected = json.loads(archive.with_suffix(".json").read_text(encoding="utf-8"))
    found = hypotheses(archive.stem.split("_", 1)[1], loaded)
    assert any(len(tokens) > 2 for tokens, _ in expected)
    for (tokens, score), (wanted, wanted_score) in zip(found, expected, strict=True):
        assert tokens == wanted
        assert score == pytest.approx(wanted_score, rel=1e-4, abs=1e-4)


def test_both_are_here():
    assert {path.stem.split("_")[0] for path in MADE} == {"202511", "202611"}


def test_a_plain_conformer_of_an_older_espnet_is_not_refused(tmp_path):
    """Its checkpoint has names that ESPnet 202611 renames while it loads."""
    import torch
    from architectures import make

    loaded = make("conformer", tmp_path / "exp")
    state = torch.load(loaded.checkpoint, weights_only=True)
    new, old = "encoder.embed.out.", "encoder.embed.out.0."
    if f"{old}weight" not in state:
        state = {key.replace(new, old): value for key, value in state.items()}
        torch.save(state, loaded.checkpoint)
    again = load_model(loaded.config, loaded.checkpoint).model.state_dict()
    assert all(torch.equal(again[key], value) for key, value in loaded.model.state_dict().items())
