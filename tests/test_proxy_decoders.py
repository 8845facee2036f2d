"""Batched greedy decoding gives, for every kind of decoder, what ESPnet's own search finds."""

import importlib

import pytest
import soundfile
import torch
from architectures import make
from test_architectures import RATE_HZ, speech

from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import Utterance, read_folder, write_folder
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.analysis import observe
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives import greedy
from espnet_shrink.objectives.score import Scorer

TEXTS = ["a b", "cd a", "b", "dab cad", "c"]
ESPNET = {
    "transformer": ("asr_inference", {"ctc_weight": 0.0}),
    "conformer": ("asr_inference", {"ctc_weight": 0.0}),
    "conformer_interctc": ("asr_inference", {"ctc_weight": 0.0}),
    "e_branchformer": ("asr_inference", {"ctc_weight": 0.0}),
    "contextual_block_conformer": ("asr_inference", {"ctc_weight": 0.0}),
    "rnn_gru": ("asr_inference", {"ctc_weight": 0.0}),
    "vgg_rnn": ("asr_inference", {"ctc_weight": 0.0}),
    "whisper": ("asr_inference", {"ctc_weight": 0.0}),
    "transducer": ("asr_inference", {}),
    "s2t": ("s2t_inference", {}),
    "st": ("st_inference", {}),
}


@pytest.fixture
def data(tmp_path):
    """A Kaldi-style folder of five utterances of several lengths."""
    utterances = []
    for i, text in enumerate(TEXTS):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, speech(0.5 + 0.37 * i, i), RATE_HZ)
        utterances.append(Utterance(f"utt{i}", str(path), text, "one"))
    write_folder(tmp_path / "data", utterances)
    return tmp_path / "data"


def a_model_that_listens(name, data, tmp_path, changes=None, **more):
    """The first random model whose texts depend on the audio, and these texts by ESPnet."""
    module, settings = ESPNET[name]
    for seed in range(20):
        loaded = make(name, tmp_path / f"exp{seed}", seed, changes)
        decode = importlib.import_module(f"espnet2.bin.{module}").Speech2Text(
            str(loaded.config), str(loaded.checkpoint), beam_size=1, **{**settings, **more}
        )
        texts = []
        for utterance in read_folder(data):
            found = decode(soundfile.read(utterance.audio, dtype="float32")[0])
            best = found[0][0] if isinstance(found, tuple) else found[0]
            texts.append(best[3] if name == "s2t" else best[0])
        if len(set(texts)) > 1:
            return loaded, texts
    raise AssertionError("every random model says the same about all audio")


@pytest.mark.parametrize("name", ESPNET)
def test_hypotheses_are_those_of_espnets_beam_of_one(name, data, tmp_path, monkeypatch):
    loaded, texts = a_model_that_listens(name, data, tmp_path)
    features = extract(loaded, data)
    kind = "transducer" if name == "transducer" else "attention"
    assert Scorer(loaded, features).hypotheses()[kind] == texts
    monkeypatch.setattr(greedy, "BATCH_FRAMES", 1)
    assert Scorer(loaded, features).hypotheses()[kind] == texts


@pytest.mark.parametrize("name", ["maskctc", "slu", "asr_transducer"])
def test_other_models_have_hypotheses_that_do_not_depend_on_the_batch(
    name, data, tmp_path, monkeypatch
):
    loaded = make(name, tmp_path / "exp")
    features = extract(loaded, data)
    together = Scorer(loaded, features).hypotheses()
    assert any(len(set(texts)) > 1 for texts in together.values())
    monkeypatch.setattr(greedy, "BATCH_FRAMES", 1)
    assert Scorer(loaded, features).hypotheses() == together


@pytest.mark.parametrize("name", ["conformer", "transducer", "asr_transducer", "whisper", "s2t"])
def test_every_site_is_used_in_the_pass_over_the_references(name, data, tmp_path):
    loaded = make(name, tmp_path / "exp")
    found = survey(loaded.model)
    seen = observe(loaded, found, extract(loaded, data))
    unused = {site.name for site in found.sites} - seen.uses.keys()
    assert not unused
    assert all(count > 0 for count in seen.uses.values())


def test_a_transducer_joins_once_per_frame(data, tmp_path):
    loaded = make("transducer", tmp_path / "exp")
    features = extract(loaded, data)
    seen = observe(loaded, survey(loaded.model), features)
    lengths = [len(f) for f in features.features]
    frames = sum(((n - 1) // 2 - 1) // 2 for n in lengths)  # two convolutions of stride 2
    assert seen.uses["joint_network.lin_out.weight"] == frames
    steps = sum(len(tokens) + 1 for tokens in features.tokens)
    assert seen.uses["decoder.decoder.0.weight_hh_l0"] == steps


def test_a_language_model_is_refused_with_advice(tmp_path, data):
    loaded = make("lm_lstm", tmp_path / "exp")
    with pytest.raises(ShrinkError, match="language model"):
        extract(loaded, data)


def test_audio_is_padded_to_the_one_length_that_a_speech_to_text_model_knows(data, tmp_path):
    loaded = make("s2t", tmp_path / "exp")
    features = extract(loaded, data)
    assert {len(f) for f in features.features} == {2 * RATE_HZ // 160 + 1}
    assert features.seconds[0] == pytest.approx(0.5)
    assert torch.is_tensor(features.features[0])
