"""Whisper: an experiment of a checkpoint, and from then on a model like any other."""

import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import whisper

from espnet_shrink.compat.encoder import encode
from espnet_shrink.compat.hooks import start_faster
from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.compat.whisper.sizes import name_of, sizes_of
from espnet_shrink.core.checkpoints import types_in
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import Utterance, write_folder
from espnet_shrink.methods.lowrank.analysis import observe
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives.score import Scorer

RATE_HZ = 16000
SIZES = {
    "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 24, "n_audio_head": 2, "n_audio_layer": 2,
    "n_vocab": 51864, "n_text_ctx": 48, "n_text_state": 24, "n_text_head": 2, "n_text_layer": 2,
}  # fmt: skip
# ESPnet reads on past the last position, where the model is at a loss for an end.
BEAM = {"beam_size": 1, "ctc_weight": 0.0, "maxlenratio": 2.0 - SIZES["n_text_ctx"]}
TEXTS = ["HELLO THERE", "MISTER QUILTER", "IT'S FIVE O'CLOCK"]


def checkpoint(path: Path, dtype=torch.float32, **changes) -> Path:
    """A random model in OpenAI's layout."""
    torch.manual_seed(0)
    sizes = {**SIZES, **changes}
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**sizes))
    model.decoder.positional_embedding.data.normal_()
    state = {key: value.to(dtype) for key, value in model.state_dict().items()}
    torch.save({"dims": sizes, "model_state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with tiny.pt, exp, and a data folder."""
    from espnet_shrink.cli import parser

    start_faster()
    folder = tmp_path_factory.mktemp("whisper")
    checkpoint(folder / "tiny.pt")
    args = parser().parse_args(["whisper", str(folder / "tiny.pt"), "--out", str(folder / "exp")])
    args.run(args)
    utterances = []
    for i, text in enumerate(TEXTS):
        noise = 0.1 * np.random.default_rng(i).standard_normal(int(RATE_HZ * (0.6 + 0.5 * i)))
        soundfile.write(folder / f"{i}.wav", noise, RATE_HZ)
        utterances.append(Utterance(f"u{i}", str(folder / f"{i}.wav"), text, "s"))
    write_folder(folder / "data", utterances)
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def test_it_scores_tokens_as_openais_code_does(here):
    loaded = load_model(*find_model("exp"))
    theirs = whisper.load_model("tiny.pt", device="cpu")
    (samples, *_) = (torch.from_numpy(soundfile.read(f"{i}.wav", dtype="float32")[0]) for i in (2,))
    tokens = torch.tensor([[50257, 50362, 11, 220, 5]])
    with torch.no_grad():
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
        wanted = theirs(mel[None], tokens)
        encoded, lengths = encode(loaded.model, samples[None], torch.tensor([len(samples)]))
        found, _ = loaded.model.decoder(encoded, lengths, tokens, torch.tensor([5]))
    assert encoded.shape == (1, 1500, 24)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_what_it_says_is_what_espnets_search_finds(here):
    from espnet2.bin.asr_inference import Speech2Text

    decode = Speech2Text("exp/config.yaml", "exp/valid.acc.ave.pth", **BEAM)
    wanted = [decode(soundfile.read(f"{i}.wav", dtype="float32")[0])[0][0] for i in range(3)]
    loaded = load_model(*find_model("exp"))
    cleaned = list(map(scored_texts(loaded.described, "config.yaml").hypothesis, wanted))
    assert Scorer(loaded, extract(loaded, "data")).hypotheses() == {"attention": cleaned}


def test_both_sides_are_normalised_as_openai_does(here):
    config = read_yaml("exp/config.yaml")
    texts = scored_texts(config, "exp/config.yaml")
    assert (
        texts.reference("MISTER QUILTER") == texts.hypothesis(" Mr. Quilter,") == "mister quilter"
    )
    multilingual = scored_texts({**config, "cleaner": "whisper_basic"}, "config.yaml")
    assert multilingual.hypothesis(" Schön, ja!") == multilingual.reference("schön ja")


def test_the_table_of_tokens_meets_what_the_decoder_ends_in(here):
    loaded = load_model(*find_model("exp"))
    features = extract(loaded, "data")
    kept = []
    loaded.model.decoder.decoders.ln.register_forward_hook(lambda *call: kept.append(call[2][0]))
    seen = observe(loaded, survey(loaded.model), features)
    rows = torch.cat(kept).double()
    name = "decoder.decoders.token_embedding.weight"
    assert seen.uses[name] == len(rows) == sum(2 + len(tokens) for tokens in features.tokens)
    torch.testing.assert_close(seen.moments[name], (rows.T @ rows / len(rows)).float())


def test_it_is_compressed_packed_and_reloaded(here, shrink, tmp_path):
    from espnet2.bin.asr_inference import Speech2Text

    (tmp_path / "search.yaml").write_text("evaluations: 1\nsearcher: energy_order\n")
    done = shrink("compress", "exp", "--data", "data", "--target", "2x", "--no-retrain", "--out",
                  tmp_path / "out", "--search_config", tmp_path / "search.yaml")  # fmt: skip
    assert done.status == 0, done.err
    assert " takes " not in done.err  # nothing is downloaded
    (archive,) = (tmp_path / "out").glob("*.zip")
    small = Speech2Text.from_pretrained(str(archive), **BEAM)
    embedding = small.asr_model.decoder.decoders.token_embedding
    assert type(embedding).__name__ == "LowRankEmbedding"
    audio = soundfile.read("1.wav", dtype="float32")[0]
    loaded = load_model(*find_model(tmp_path / "out" / "round1"))
    said = Scorer(loaded, extract(loaded, "data")).hypotheses()["attention"]
    assert scored_texts(loaded.described, "config.yaml").hypothesis(small(audio)[0][0]) == said[1]


def test_it_is_retrained(here, shrink, tmp_path):
    (tmp_path / "search.yaml").write_text("evaluations: 1\nsearcher: energy_order\n")
    (tmp_path / "rounds.yaml").write_text("step: 9\nfinal_epochs: 1\ncontrol: false\n")
    done = shrink("compress", "exp", "--data", "data", "--train", "data", "--target", "1.5x",
                  "--out", tmp_path / "out", "--search_config", tmp_path / "search.yaml",
                  "--rounds_config", tmp_path / "rounds.yaml")  # fmt: skip
    assert (tmp_path / "out" / "round1" / "round.yaml").exists(), done.err
    before = load_model(*find_model("exp")).model.state_dict()
    after = load_model(*find_model(tmp_path / "out" / "round1")).model.state_dict()
    name = "encoder.encoders.conv1.weight"
    assert not torch.equal(before[name], after[name])


def test_half_width_stays_half_width(tmp_path, shrink):
    checkpoint(tmp_path / "half.pt", torch.float16)
    done = shrink("whisper", tmp_path / "half.pt", "--out", tmp_path / "exp")
    assert done.status == 0, done.err
    assert set(types_in(tmp_path / "exp" / "valid.acc.ave.pth").values()) == {torch.float16}


def test_of_many_languages_the_one_that_is_asked_for(tmp_path, shrink):
    checkpoint(tmp_path / "many.pt", n_vocab=51865)
    done = shrink("whisper", tmp_path / "many.pt", "--language", "de", "--out", tmp_path / "exp")
    assert done.status == 0, done.err
    config = read_yaml(tmp_path / "exp" / "config.yaml")
    assert config["token_type"] == config["bpemodel"] == "whisper_multilingual"
    assert config["cleaner"] == "whisper_basic"
    assert config["token_list"][50258:50262:3] == ["<|startoftranscript|>", "<|de|>"]


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"n_mels": 128}, [], "listens to 128 mel bands"),
        ({"n_vocab": 50000}, [], "the model has 50000 tokens"),
        ({}, ["--language", "de"], "does not know the language de: en"),
        ({"n_vocab": 51865}, ["--language", "xx"], "does not know the language xx: ca, cs"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path, shrink, change, options, said):
    checkpoint(tmp_path / "tiny.pt", **change)
    done = shrink("whisper", tmp_path / "tiny.pt", *options, "--out", tmp_path / "exp")
    assert done.status == 2 and said in done.err and len(done.err.splitlines()) == 1
    assert not (tmp_path / "exp").exists()


def test_what_is_no_checkpoint_is_one_line(tmp_path, shrink):
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save({"dims": {**SIZES}, "model_state_dict": {}}, tmp_path / "empty.pt")
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": {}}, tmp_path / "short.pt")
    for name, said in (
        ("text.pt", "text.pt is no checkpoint"),
        ("other.pt", "which has dims and model_state_dict"),
        ("empty.pt", "do not fit its dims: decoder.decoders"),
        ("short.pt", "its dims lack n_audio_ctx"),
        ("nothing.pt", "is neither a file nor one of OpenAI's models (tiny.en, "),
        (".", "is a folder: give a file"),
    ):
        done = shrink("whisper", tmp_path / name, "--out", tmp_path / "exp")
        assert done.status == 2 and said in done.err and len(done.err.splitlines()) == 1, done.err
        assert not (tmp_path / "exp").exists()


def test_settings_of_training_are_espnets(tmp_path, shrink):
    checkpoint(tmp_path / "tiny.pt")
    (tmp_path / "train.yaml").write_text("optm: adam\n")
    done = shrink("whisper", tmp_path / "tiny.pt", "--train_config", tmp_path / "train.yaml",
                  "--out", tmp_path / "exp")  # fmt: skip
    assert done.status == 2 and "no such settings of training: optm" in done.err
    assert not (tmp_path / "exp").exists()


def test_nothing_is_overwritten(here, shrink):
    before = Path("exp/config.yaml").read_bytes()
    done = shrink("whisper", "tiny.pt", "--out", "exp")
    assert done.status == 2 and "config.yaml is there already" in done.err
    assert Path("exp/config.yaml").read_bytes() == before


def test_names_of_sizes_are_models_that_need_no_download():
    name = name_of(SIZES)
    assert sizes_of(name) == SIZES and name in whisper.available_models()
    assert "tiny.en" in whisper.available_models()
    for other in ("tiny.en", name.replace("24", "x"), name[:-1], "whisper()", None):
        assert sizes_of(other) is None and (other == "tiny.en" or other not in
                                            whisper.available_models())  # fmt: skip
    assert whisper.load_model(name).dims == whisper.model.ModelDimensions(**SIZES)


def test_the_tokenizer_writes_and_reads_any_text():
    tokenizer = copy.deepcopy(whisper.tokenizer.get_tokenizer(multilingual=False)).tokenizer
    vocabulary = tokenizer.vocabulary()
    assert len(vocabulary) == len(set(vocabulary)) == 51864
    assert not any(token.split() != [token] for token in vocabulary)  # no white space in any
    assert tokenizer.vocab_size + len(tokenizer.get_added_vocab()) == 51864
    for text in (" Hello, wörld\n", "日本語 \t", "<|notimestamps|> a<|x|>", "é\u0301🎉"):
        tokens = tokenizer.tokenize(text)
        ids = tokenizer.convert_tokens_to_ids(tokens)
        assert tokenizer.convert_ids_to_tokens(ids) == tokens
        assert tokenizer.convert_tokens_to_string(tokens) == text
    assert tokenizer.convert_ids_to_tokens([5, 50257], skip_special_tokens=True) == [vocabulary[5]]
