"""Beam search in batches finds what ESPnet's own finds."""

import pytest
import soundfile
import torch
from conftest import python
from families import compressed_model, plain_model

from espnet_shrink.compat.beam import search_in_batches
from espnet_shrink.compat.decoders.rnn import BATCHED

TOKENS = ["<blank>", "<unk>", "<space>", *(chr(ord("a") + i) for i in range(26)), "<sos/eos>"]
ATTENTIONS = [
    "noatt", "dot", "add", "location", "location2d", "location_recurrent", "multi_head_dot",
    "multi_head_add", "multi_head_loc", "multi_head_multi_res_loc",
]  # fmt: skip
RNN = {
    "encoder": "rnn",
    "encoder_conf": {"num_layers": 2, "hidden_size": 8, "output_size": 8, "subsample": [2, 1]},
    "decoder": "rnn",
}
VARIED = {
    "plain": {}, "beam of one": {"beam_size": 1}, "beam of 20": {"beam_size": 20},
    "two": {"beam_size": 2}, "no ctc": {"ctc_weight": 0.0}, "half": {"ctc_weight": 0.5},
    "penalty": {"penalty": 0.7},
    "short": {"maxlenratio": 0.2}, "of a length": {"maxlenratio": -4.0},
    "long": {"maxlenratio": 0.9, "minlenratio": 0.5}, "normalised": {"normalize_length": True},
}  # fmt: skip


def model(folder, decoder=None, attention=None, seed=0, make=plain_model):
    conf = {
        "num_layers": 2, "hidden_size": 10,
        "att_conf": {
            "atype": "location", "adim": 8, "aheads": 2, "aconv_chans": 3, "aconv_filts": 4,
            "awin": 3, **({} if attention is None else {"atype": attention}),
        },
        **(decoder or {}),
    }  # fmt: skip
    loaded = make(folder, {**RNN, "token_list": TOKENS, "decoder_conf": conf}, seed)
    with torch.no_grad():  # a random model says nothing, or the same for ever
        for parameter in loaded.model.parameters():
            parameter.mul_(2.0)
    torch.save(loaded.model.state_dict(), loaded.checkpoint)
    return loaded


def both(loaded, **settings):
    """N-best lists of two pieces of noise by ESPnet's search, and by ours."""
    from espnet2.bin.asr_inference import Speech2Text

    settings = {"beam_size": 5, "ctc_weight": 0.3, "nbest": 20, **settings}
    decode = Speech2Text(str(loaded.config), str(loaded.checkpoint), **settings)
    audio = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (9000, 14000)]
    wanted = [decode(each) for each in audio]
    assert search_in_batches(decode)
    return wanted, [decode(each) for each in audio]


def same(wanted, found):
    for theirs, ours in zip(wanted, found, strict=True):
        assert len(theirs) == len(ours) > 0
        for (text, _, ids, hyp), (text_2, _, ids_2, hyp_2) in zip(theirs, ours, strict=True):
            assert text == text_2 and ids == ids_2
            assert hyp.yseq.tolist() == hyp_2.yseq.tolist()
            assert float(hyp.score) == pytest.approx(float(hyp_2.score), abs=1e-4)
            assert hyp.scores.keys() == hyp_2.scores.keys()
            for name, score in hyp.scores.items():
                assert float(score) == pytest.approx(float(hyp_2.scores[name]), abs=1e-4)
            assert isinstance(hyp_2.score, torch.Tensor)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_attention(attention, tmp_path):
    loaded = model(tmp_path / "exp", attention=attention)
    assert type(loaded.model.decoder.att_list[0]).__name__ in BATCHED
    wanted, found = both(loaded)
    assert any(len(hyp[2]) > 1 for hyps in wanted for hyp in hyps)
    same(wanted, found)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return model(tmp_path_factory.mktemp("usual") / "exp")


@pytest.mark.parametrize("name", VARIED)
def test_every_setting(name, usual):
    same(*both(usual, **VARIED[name]))


@pytest.mark.parametrize(
    "decoder", [{"rnn_type": "gru"}, {"num_layers": 1}, {"context_residual": True}]
)
@pytest.mark.parametrize("make", [plain_model, compressed_model])
def test_every_decoder_dense_and_low_rank(decoder, make, tmp_path):
    same(*both(model(tmp_path / "exp", decoder, make=make)))


LMS = {
    "seq_rnn": {"unit": 12, "nlayers": 1},
    "transformer": {"att_unit": 12, "embed_unit": 8, "head": 2, "unit": 16, "layer": 2},
}


@pytest.mark.parametrize("kind", LMS)
def test_language_models_ride_along(kind, usual, tmp_path):
    lm = plain_model(
        tmp_path / "lm", {"lm": kind, "lm_conf": LMS[kind], "token_list": TOKENS}, task="lm"
    )
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(2.0)
    torch.save(lm.model.state_dict(), lm.checkpoint)
    files = {"lm_train_config": str(lm.config), "lm_file": str(lm.checkpoint)}
    wanted, found = both(usual, lm_weight=0.6, **files)
    same(wanted, found)
    without, _ = both(usual)
    assert [hyp[2] for hyp in without[0]] != [hyp[2] for hyp in wanted[0]]  # it has its say


@pytest.mark.parametrize(
    ("change", "settings", "why"),
    [
        ({"attention": "coverage"}, {}, "RNNDecoder with AttCov are not known in batches"),
        (
            {"attention": "coverage_location"},
            {},
            "RNNDecoder with AttCovLoc are not known in batches",
        ),
        ({}, {"ctc_weight": 1.0}, None),  # ESPnet searches in batches itself
    ],
)
def test_what_is_not_known_is_left_to_espnet_and_said(change, settings, why, tmp_path, caplog):
    from espnet2.bin.asr_inference import Speech2Text

    loaded = model(tmp_path / "exp", **change)
    decode = Speech2Text(str(loaded.config), str(loaded.checkpoint), beam_size=3, **settings)
    kind = type(decode.beam_search)
    assert not search_in_batches(decode) and type(decode.beam_search) is kind
    said = [line for line in caplog.messages if line.startswith("ESPnet's own beam search: ")]
    assert said == ([] if why is None else [f"ESPnet's own beam search: the steps of {why}"])
    assert decode(torch.randn(9000))


def test_the_launcher_turns_it_on_and_finds_what_espnet_finds(usual, tmp_path):
    audio = tmp_path / "a.wav"
    noise = torch.randn(12000, generator=torch.Generator().manual_seed(0))
    soundfile.write(audio, 0.1 * noise.numpy(), 16000)
    (tmp_path / "wav.scp").write_text(f"u1 {audio}\n")
    scores = {}
    for name, start in (("launcher", ["-m", "espnet_shrink.run"]), ("espnet", [])):
        done = python(
            *start, "-m", "espnet2.bin.asr_inference", "--output_dir", tmp_path / name,
            "--asr_train_config", usual.config, "--asr_model_file", usual.checkpoint,
            "--beam_size", 4, "--nbest", 4, "--ctc_weight", 0.3, "--data_path_and_name_and_type",
            f"{tmp_path / 'wav.scp'},speech,sound", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("BeamSearchInBatches" in done.stderr) == (name == "launcher")
        lists = [tmp_path / name / f"{n}best_recog" for n in range(1, 5)]
        scores[name] = [(path / "token").read_text() for path in lists]
        assert all((path / "score").read_text().startswith("u1 tensor(") for path in lists)
    assert scores["launcher"] == scores["espnet"]
