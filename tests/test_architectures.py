"""Every architecture of ESPnet's speech and language models, compressed, is the product it stores.

The models are tiny and random, built by ESPnet's own tasks from tests/architectures/*.yaml.
"""

import copy
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from architectures import NAMES, make
from conftest import compress
from toy import close, random_plan

from espnet_shrink.compat.models import LoadedModel, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.methods.lowrank.build import fold, plan_of
from espnet_shrink.methods.lowrank.sites import survey

RATE_HZ = 16000
STREAMING = [name for name in NAMES if name.startswith("contextual_block")]
SPEECH = [name for name in NAMES if not name.startswith("lm_")]


@dataclass(frozen=True)
class Pair:
    """A compressed model as ESPnet reads it back, and the plain one with its factors multiplied."""

    small: LoadedModel
    dense: LoadedModel


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Name of an architecture -> its Pair, made when first asked for."""
    made: dict[str, Pair] = {}

    def pair(name: str) -> Pair:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            base = make(name, folder / "exp")
            small = compress(base, random_plan(survey(base.model).sites, 1), folder / "small")
            small = load_model(small.config, small.checkpoint)
            dense = copy.deepcopy(small.model)
            fold(dense)
            torch.save(dense.state_dict(), folder / "exp" / "folded.pth")
            made[name] = Pair(small, load_model(base.config, folder / "exp" / "folded.pth"))
        return made[name]

    return pair


def speech(seconds: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tones = np.sin(2 * np.pi * np.cumsum(200 + 2000 * generator.random(len(t))) / RATE_HZ)
    return (0.3 * tones + 0.01 * generator.standard_normal(len(t))).astype(np.float32)


def batch(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """Two utterances as ESPnet's trainer gives them, longest first."""
    audio = [torch.from_numpy(speech(seconds, i)) for i, seconds in enumerate((2.0, 2.0))]
    audio[1][24000:] = 0.0
    tokens = torch.tensor([[3, 4, 2, 5, 6, 4], [5, 3, 6, 3, -1, -1]])
    given: dict[str, torch.Tensor] = {"text": tokens, "text_lengths": torch.tensor([6, 4])}
    if loaded.task.name == "lm":
        return given | {"text": tokens.clamp_min(0)}
    given |= {"speech": torch.stack(audio), "speech_lengths": torch.tensor([32000, 24000])}
    if loaded.task.name == "st":
        given |= {"src_text": tokens, "src_text_lengths": torch.tensor([6, 4])}
    if loaded.task.name == "s2t":
        for name in ("text_prev", "text_ctc"):
            given |= {name: tokens, f"{name}_lengths": torch.tensor([6, 4])}
    return given


def weight(parameter: torch.Tensor) -> torch.Tensor:
    """A pointwise convolution's weight as the matrix that it is."""
    return parameter.flatten(1) if parameter.dim() > 2 else parameter


def factors(model: torch.nn.Module, site: str) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    own = dict(model.named_parameters())
    if f"{site}_U" in own:
        return own[f"{site}_U"], own[f"{site}_V"]
    path = site.removesuffix("weight")
    return own[f"{path}U.weight"], own[f"{path}V.weight"]


def loss_of(model: Any, data: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(0)
    np.random.seed(0)  # Mask-CTC masks at random
    return model(**data)[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_matrix_is_a_site_or_named_with_a_reason(pairs, name):
    dense = pairs(name).dense.model
    found = survey(dense)
    sites = {site.name for site in found.sites}
    named = {u.name: u.reason for u in found.uncompressed}
    assert sites.isdisjoint(named)
    assert sites | named.keys() == {n for n, _ in dense.named_parameters()}
    assert all(named.values())
    linear = {
        n for path, m in dense.named_modules() if isinstance(m, torch.nn.Linear)
        for n in [f"{path}.weight"]
    }  # fmt: skip
    small = {n for n, reason in named.items() if reason.startswith("too small")}
    tied = {n for n, _ in dense.named_parameters(remove_duplicate=False)} - sites - named.keys()
    assert linear <= sites | small | tied


@pytest.mark.parametrize("name", NAMES)
def test_compressed_it_is_read_back_by_espnets_builder(pairs, name):
    pair = pairs(name)
    kept = torch.load(pair.small.checkpoint, weights_only=True)
    built, _ = pair.small.task.builder().build_model_from_file(
        str(pair.small.config), str(pair.small.checkpoint)
    )
    state = built.state_dict()
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[key], kept[key]) for key in kept)
    plan = plan_of(built)
    assert len(plan.factored) > len(plan.ranks) / 2
    count = {n: sum(p.numel() for p in m.parameters()) for n, m in
             (("small", built), ("dense", pair.dense.model))}  # fmt: skip
    sites = survey(pair.dense.model).sites
    saved = sum(site.params - site.params_at(plan.ranks[site.name]) for site in sites)
    assert saved > 0
    assert count["dense"] - count["small"] == saved


@pytest.mark.parametrize("name", NAMES)
def test_forward_loss_and_one_training_step_are_those_of_the_product(pairs, name):
    pair = pairs(name)
    small, after = (copy.deepcopy(pair.small.model) for _ in range(2))
    dense, stepped = (copy.deepcopy(pair.dense.model) for _ in range(2))
    data = batch(pair.small)
    close(loss_of(small, data), loss_of(dense, data), 1e-4)
    if name in SPEECH:
        given = [data["speech"], data["speech_lengths"]]
        with torch.no_grad():
            found, expected = small.encode(*given)[0], dense.encode(*given)[0]
        if isinstance(found, tuple):
            found, expected = found[0], expected[0]
        close(found, expected, 1e-4)

    small.train(), dense.train()
    losses = [loss_of(model, data) for model in (small, dense)]
    close(losses[0], losses[1], 1e-4)
    for loss in losses:
        loss.backward()
    rate = 1e-2
    stepped.train(), after.train()
    own, taught = dict(small.named_parameters()), dict(dense.named_parameters())
    with torch.no_grad():
        for key, parameter in after.named_parameters():
            if own[key].grad is not None:
                parameter.sub_(rate * own[key].grad)
        for key, parameter in stepped.named_parameters():
            gradient = taught[key].grad
            if gradient is None:
                continue
            if key in plan_of(small).factored:
                U, V = (weight(f) for f in factors(small, key))
                g = weight(gradient)
                product = (U - rate * g @ V.T) @ (V - rate * U.T @ g)
                parameter.copy_(product.view_as(parameter))
            else:
                parameter.sub_(rate * gradient)
    ends = [loss_of(model, data) for model in (after, stepped)]
    assert abs(float(ends[0] - losses[0])) > 1e-4  # the step went somewhere
    close(ends[0], ends[1], 1e-4)


INFERENCE = {
    "asr": (
        "asr_inference",
        "Speech2Text",
        {"beam_size": 2, "ctc_weight": 0.3, "maxlenratio": -6, "minlenratio": -3},
    ),
    "asr_transducer": ("asr_transducer_inference", "Speech2Text", {"beam_size": 2}),
    "s2t": ("s2t_inference", "Speech2Text", {"beam_size": 2, "maxlenratio": -6, "minlenratio": -3}),
    "st": ("st_inference", "Speech2Text", {"beam_size": 2, "maxlenratio": -6, "minlenratio": -3}),
    "slu": (
        "slu_inference",
        "Speech2Understand",
        {"beam_size": 2, "ctc_weight": 0.3, "maxlenratio": -6, "minlenratio": -3},
    ),
}
OWN_INFERENCE = {
    "maskctc": ("asr_inference_maskctc", "Speech2Text", {}),
    "transducer": ("asr_inference", "Speech2Text", {"beam_size": 2}),
    "whisper": (
        "asr_inference",
        "Speech2Text",
        {"beam_size": 2, "ctc_weight": 0.0, "maxlenratio": -6, "minlenratio": -3},
    ),
}


def hypotheses(name: str, loaded: LoadedModel) -> list[tuple[list[int], float]]:
    """Token ids and scores of ESPnet's own inference on two pieces of audio."""
    module, class_name, settings = OWN_INFERENCE.get(name) or INFERENCE[loaded.task.name]
    decode = importlib.import_module(f"espnet2.bin.{module}").__dict__[class_name](
        str(loaded.config), str(loaded.checkpoint), **settings
    )
    found = []
    for seed, seconds in enumerate((1.3, 0.8)):
        results = decode(speech(seconds, seed))
        best = results[0][0] if isinstance(results, tuple) else results[0]
        hyp = best if hasattr(best, "yseq") else best[3 if len(best) == 4 else -1]
        found.append(([int(token) for token in hyp.yseq], float(hyp.score)))
    return found


@pytest.mark.parametrize("name", SPEECH)
def test_espnet_decodes_the_same_with_the_same_scores(pairs, name):
    pair = pairs(name)
    found, expected = (hypotheses(name, loaded) for loaded in (pair.small, pair.dense))
    for (tokens, score), (wanted, wanted_score) in zip(found, expected, strict=True):
        assert tokens == wanted
        assert score == pytest.approx(wanted_score, rel=1e-4, abs=1e-4)
    assert any(len(tokens) > 1 for tokens, _ in found)


@pytest.mark.parametrize("name", STREAMING)
def test_espnets_streaming_inference_decodes_the_same(pairs, name):
    from espnet2.bin.asr_inference_streaming import Speech2TextStreaming

    results = []
    for loaded in (pairs(name).small, pairs(name).dense):
        decode = Speech2TextStreaming(
            str(loaded.config), str(loaded.checkpoint), beam_size=2, maxlenratio=0.2
        )
        samples = speech(2.5, 3)
        for start in range(0, len(samples), 8000):
            piece = samples[start : start + 8000]
            last = decode(piece, is_final=start + 8000 >= len(samples))
        results.append((last[0][2], float(last[0][3].score)))
    assert results[0][0] == results[1][0]
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("lm_")])
def test_a_compressed_language_model_scores_text_as_the_product_does(pairs, name):
    pair = pairs(name)
    ys = torch.tensor([7, 3, 4, 5])
    results = []
    for loaded in (pair.small, pair.dense):
        state, scores = None, []
        with torch.no_grad():
            for length in range(1, 5):
                logp, state = loaded.model.lm.score(ys[:length], state, torch.zeros(1))
                scores.append(logp)
            batched, _ = loaded.model.lm.batch_score(
                torch.stack([ys, ys.flip(0)]), [None, None], torch.zeros(2, 1)
            )
        results.append((torch.stack(scores), batched))
    close(results[0][0], results[1][0], 1e-4)
    close(results[0][1], results[1][1], 1e-4)


def test_a_compressed_models_config_is_that_of_its_base_and_the_plan(pairs):
    pair = pairs("conformer")
    plain, small = read_yaml(pair.dense.config), read_yaml(pair.small.config)
    changed = {key for key in small if small[key] != plain.get(key)}
    assert changed == {"use_adapter", "adapter", "adapter_conf"}
    assert yaml.safe_load(Path(pair.small.config).read_text()) == small
