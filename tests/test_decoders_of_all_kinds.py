"""Decoders of every kind of ESPnet's find what its own search finds, or are refused by name."""

import pytest
from architectures import make
from test_proxy_decoders import a_model_that_listens, data  # noqa: F401

from espnet_shrink.data.features import extract
from espnet_shrink.objectives import greedy
from espnet_shrink.objectives.score import Scorer

KINDS = ["noatt", "dot", "add", "location", "location2d", "location_recurrent", "coverage",
         "coverage_location", "multi_head_dot", "multi_head_add", "multi_head_loc",
         "multi_head_multi_res_loc"]  # fmt: skip
OTHERWISE = {"num_layers": 2, "context_residual": True, "dropout": 0.2, "rnn_type": "gru",
             "sampling_probability": 0.5}  # fmt: skip
BLANKS = ["<blank4>", "<blank2>", "<blank>", "<unk>", "<space>", "a", "b", "c", "d", "<sos/eos>"]


def attention(kind):
    return {"atype": kind, "adim": 10, "aheads": 2, "awin": 3, "aconv_chans": 3, "aconv_filts": 4}


def agrees(loaded, texts, kind, data, monkeypatch):  # noqa: F811
    features = extract(loaded, data)
    assert Scorer(loaded, features).hypotheses()[kind] == texts
    monkeypatch.setattr(greedy, "BATCH_FRAMES", 1)
    assert Scorer(loaded, features).hypotheses()[kind] == texts


@pytest.mark.parametrize("kind", KINDS)
def test_rnn_decoders_of_every_attention(kind, data, tmp_path, monkeypatch):  # noqa: F811
    settings = {"num_layers": 1} if kind in KINDS[::2] else OTHERWISE
    changes = {"decoder_conf": {**settings, "att_conf": attention(kind)}}
    loaded, texts = a_model_that_listens("rnn_gru", data, tmp_path, changes)
    assert len({len(text) for text in texts}) > 1  # some end before others
    agrees(loaded, texts, "attention", data, monkeypatch)


def test_an_attention_of_unknown_state_goes_one_by_one(data, tmp_path, monkeypatch):  # noqa: F811
    changes = {"decoder_conf": {"att_conf": attention("location2d")}}
    loaded, texts = a_model_that_listens("rnn_gru", data, tmp_path, changes)
    monkeypatch.setattr("espnet_shrink.compat.decoders.rnn.BATCHED", set())
    agrees(loaded, texts, "attention", data, monkeypatch)


def several_blanks(first=0.3):
    return {"token_list": BLANKS, "model_conf": {"transducer_multi_blank_durations": [2, 4],
                                                 "ctc_weight": first}}  # fmt: skip


def test_a_transducer_of_several_blanks_is_searched_by_espnets_mbg(data, tmp_path, monkeypatch):  # noqa: F811
    loaded, texts = a_model_that_listens(
        "transducer", data, tmp_path, several_blanks(), transducer_conf={"search_type": "mbg"}
    )
    agrees(loaded, texts, "transducer", data, monkeypatch)


@pytest.mark.parametrize("name, task, refused", [
    ("rnn", "decoder_conf", "num_encs is 2"),
    ("lm_lstm", "", "is a language model"),
])  # fmt: skip
def test_what_cannot_be_scored_is_refused_by_name(name, task, refused, data, tmp_path, shrink):  # noqa: F811
    changes = {}
    if task == "decoder_conf":
        changes = {"decoder_conf": {"num_encs": 2}}
    make(name, tmp_path / "exp", 0, changes)
    failed = shrink("proxy", "--exp", tmp_path / "exp", "--data", data, "--out", tmp_path / "out",
                    "--size", 2)  # fmt: skip
    assert failed.status == 2 and refused in failed.err, failed.err
    assert failed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weight, kinds", [(0, ["attention"]), (1, ["ctc"]), (0.3, None)])
def test_the_weight_of_ctc_says_which_decoders_there_are(weight, kinds, data, tmp_path):  # noqa: F811
    loaded = make("rnn", tmp_path / "exp", 0, {"model_conf": {"ctc_weight": weight}})
    found = Scorer(loaded, extract(loaded, data)).hypotheses()
    assert list(found) == (kinds or ["ctc", "attention"])
