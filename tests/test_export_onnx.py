"""ONNX files compute what torch computes, on utterances of any length, and stay factorised."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import compress, tree
from families import CONFORMER, TRANSFORMER, compressed_model, plain_model

from espnet_shrink.compat.decoders import decoders_of
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives.greedy import decode, threads_of, views_of
from espnet_shrink.plan import Plan

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")

from espnet_shrink.export.onnx_files import export_onnx  # noqa: E402
from espnet_shrink.export.onnx_run import OnnxRecogniser, weights_in_memory_mib  # noqa: E402

LENGTHS = [7, 8, 9, 50, 51, 333, 1200]
TOLERANCE = 1e-4

RNN = {
    "encoder": "rnn",
    "encoder_conf": {
        "num_layers": 3, "hidden_size": 16, "output_size": 12, "subsample": [3, 2, 1],
        "dropout": 0.3,  # ESPnet's RNNP drops out in eval mode too; an export must not
    },
    "decoder": "rnn",
    "decoder_conf": {
        "num_layers": 2, "hidden_size": 14, "dropout": 0.2, "context_residual": True,
        "att_conf": {"atype": "location", "adim": 10, "aconv_chans": 3, "aconv_filts": 4},
    },
}  # fmt: skip
# One direction, one stack of layers without projections, another attention.
PLAIN_RNN = {
    "encoder": "rnn",
    "encoder_conf": {"num_layers": 2, "hidden_size": 16, "output_size": 12, "dropout": 0.0,
                     "use_projection": False, "bidirectional": False},
    "decoder": "rnn",
    "decoder_conf": {"hidden_size": 14, "att_conf": {"atype": "dot", "adim": 10}},
}  # fmt: skip
FAMILIES = {"rnn": RNN, "plain_rnn": PLAIN_RNN, "conformer": CONFORMER, "transformer": TRANSFORMER}


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request, tmp_path_factory):
    """A compressed model of each family, and its ONNX files."""
    folder = tmp_path_factory.mktemp(request.param)
    loaded = compressed_model(folder, FAMILIES[request.param], seed=1)
    export_onnx(loaded, folder / "onnx", int8=True)
    return loaded, OnnxRecogniser(folder / "onnx")


def features(frames, seed=0):
    return np.random.default_rng(seed).standard_normal((frames, 20)).astype(np.float32)


@torch.no_grad()
def encoded_by_torch(loaded, x):
    model = views_of(loaded.model)[0]  # ESPnet's RNNP drops out in eval mode too
    return model.encoder(torch.from_numpy(x)[None], torch.tensor([len(x)]))[:2]


def close(found, expected):
    np.testing.assert_allclose(found, expected.numpy(), TOLERANCE, TOLERANCE)


@pytest.mark.parametrize("frames", LENGTHS)
def test_encoder_and_ctc_are_espnets_own(exported, frames):
    loaded, recogniser = exported
    x = features(frames)
    expected, length = encoded_by_torch(loaded, x)
    found, found_length = recogniser.sessions["encoder"].run(None, {"features": x[None]})
    close(found, expected)
    assert found_length.tolist() == length.tolist() == [found.shape[1]]
    with torch.no_grad():
        log_probs = loaded.model.ctc.log_softmax(expected)
    close(recogniser.sessions["ctc"].run(None, {"encoded": expected.numpy()})[0], log_probs)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 11, 120])
def test_decoder_steps_are_espnets_own_score(exported, frames):
    """Each step goes on from the state that the step before it gave."""
    loaded, recogniser = exported
    torch.manual_seed(2)
    encoded = torch.randn(1, frames, loaded.model.encoder.output_size())
    decoder = loaded.model.decoder
    tokens = [loaded.model.sos, 3, 5, 4, 4]
    state = decoder.init_state(encoded[0])
    inputs = recogniser._recurrent if hasattr(decoder, "att_list") else recogniser._prefix
    step = inputs(encoded.numpy())
    for length in range(1, len(tokens) + 1):
        expected, state = decoder.score(torch.tensor(tokens[:length]), state, encoded[0])
        close(step(tokens[:length])[0], expected)


def test_meta_says_what_a_user_must_know(exported):
    loaded, recogniser = exported
    meta = recogniser.meta
    assert meta["token_list"] == loaded.args.token_list
    assert (meta["blank"], meta["sos"], meta["eos"]) == (0, loaded.model.sos, loaded.model.eos)
    assert (meta["sampling_rate_hz"], meta["checkpoint"]) == (16000, "valid.acc.ave.pth")
    assert meta["versions"]["torch"] == torch.__version__ and meta["versions"]["opset"] == 17
    for name, graph in meta["graphs"].items():
        session = recogniser.sessions[name]
        assert {i.name: i.shape for i in session.get_inputs()} == graph["inputs"]
        assert {o.name: o.shape for o in session.get_outputs()} == graph["outputs"]


def test_exporting_leaves_the_model_as_it_was(exported, tmp_path):
    loaded, _ = exported
    before = copy.deepcopy(loaded.model)
    export_onnx(loaded, tmp_path / "onnx", int8=False)
    x = torch.from_numpy(features(70))[None]
    with torch.no_grad():
        a, b = (views_of(m)[0].encoder(x, torch.tensor([70]))[0] for m in (before, loaded.model))
    assert torch.equal(a, b) and not loaded.model.training


def test_too_few_frames_for_the_convolutions_give_nothing(exported):
    loaded, recogniser = exported
    shortest = recogniser.meta["shortest_frames"]
    assert shortest == (7 if type(loaded.model.encoder).__name__ == "ConformerEncoder" else 1)
    assert recogniser.encode(features(shortest + 1)).shape[1] >= 1
    if shortest > 1:
        assert recogniser.ctc_greedy(features(shortest - 1)) == []
        assert recogniser.attention_greedy(features(shortest - 1)) == []


@torch.no_grad()
def test_attention_greedy_is_the_best_token_of_espnets_score_at_each_step(exported):
    loaded, recogniser = exported
    decoder, x = loaded.model.decoder, features(90)
    encoded = encoded_by_torch(loaded, x)[0][0]
    tokens, state = [loaded.model.sos], decoder.init_state(encoded)
    while len(tokens) <= len(encoded):
        scores, state = decoder.score(torch.tensor(tokens), state, encoded)
        if int(scores.argmax()) == loaded.model.eos:
            break
        tokens.append(int(scores.argmax()))
    assert recogniser.attention_greedy(x) == [token for token in tokens[1:] if token != 0]


# --- a trained model, on audio ---


def greedy_by_torch(loaded, data):
    views = views_of(loaded.model)
    decoders = decoders_of(loaded.model)
    return decode(views, threads_of(views), data.features, decoders, data.prompts, {})


def test_hypotheses_of_a_trained_model_are_those_of_torch(small):
    export_onnx(small, Path("onnx"), int8=False)
    recogniser = OnnxRecogniser(Path("onnx"))
    data = extract(small, "dump/raw/dev")
    expected = greedy_by_torch(small, data)
    arrays = [x.numpy() for x in data.features]
    assert [recogniser.ctc_greedy(x) for x in arrays] == expected["ctc"]
    assert [recogniser.attention_greedy(x) for x in arrays] == expected["attention"]
    # Of both: with other versions of torch a random plan leaves one of them little to say.
    assert len({tuple(tokens) for texts in expected.values() for tokens in texts}) > 5


def test_in_8_bits_a_trained_model_says_nearly_the_same(baseline):
    export_onnx(baseline, Path("onnx"), int8=True)
    recogniser = OnnxRecogniser(Path("onnx"), int8=True)
    data = extract(baseline, "dump/raw/dev")
    expected = greedy_by_torch(baseline, data)["ctc"]
    found = [recogniser.ctc_greedy(x.numpy()) for x in data.features]
    assert sum(a == b for a, b in zip(found, expected, strict=True)) >= len(expected) - 3


def test_in_8_bits_the_encoder_is_nearly_the_same(exported):
    loaded, recogniser = exported
    small = OnnxRecogniser(loaded.config.parent.parent / "onnx", int8=True)
    exact, rough = (r.encode(features(200)) for r in (recogniser, small))
    error = np.sqrt(((rough - exact) ** 2).mean() / (exact**2).mean())
    assert 0 < error < 0.15


# --- sizes ---

WIDE = {
    "rnn": {
        **RNN, "encoder_conf": {"num_layers": 2, "hidden_size": 96, "output_size": 64,
                                "subsample": [2, 1], "dropout": 0.0},
        "decoder_conf": {**RNN["decoder_conf"], "hidden_size": 96},
    },
    "conformer": {
        **CONFORMER, "encoder_conf": {**CONFORMER["encoder_conf"], "output_size": 96,
                                      "linear_units": 256},
        "decoder_conf": {**CONFORMER["decoder_conf"], "linear_units": 256},
    },
}  # fmt: skip


def floats(path: Path) -> int:
    weights = onnx.load(str(path)).graph.initializer
    return sum(int(np.prod(w.dims)) for w in weights if w.data_type == onnx.TensorProto.FLOAT)


@pytest.mark.parametrize("family", WIDE)
def test_files_hold_the_factors_and_are_as_small_as_the_checkpoint(family, tmp_path):
    plain = plain_model(tmp_path / "plain", WIDE[family])
    ranks = {s.name: min(4, s.largest_useful_rank) for s in survey(plain.model).sites}
    loaded = compress(plain, Plan(ranks), tmp_path / "small")
    files = export_onnx(loaded, tmp_path / "onnx", int8=True)
    model = loaded.model
    parts = {"encoder": model.encoder, "ctc": model.ctc, "decoder_step": model.decoder}
    for path in files[:3]:
        params = sum(p.numel() for p in parts[path.stem].parameters())
        assert params - 20 <= floats(path) + 2 * _norms(parts[path.stem]) <= params + 200, path
    # The nodes of a graph take some 100 kB, whatever the size of the model.
    overhead = sum(path.stat().st_size - 4 * floats(path) for path in files[:3])
    assert overhead < 300_000
    exact, rough = (sum(p.stat().st_size for p in some) for some in (files[:3], files[3:]))
    assert rough < exact
    assert sum(map(floats, files[3:])) < 0.35 * sum(map(floats, files[:3]))


def _norms(module: torch.nn.Module) -> int:
    """Half the numbers of BatchNorms that are folded into the convolution before them."""
    return sum(m.num_features for m in module.modules() if isinstance(m, torch.nn.BatchNorm1d))


def test_onnxruntime_multiplies_recurrent_factors_once_when_it_loads(tmp_path):
    plain = plain_model(tmp_path / "plain", WIDE["rnn"])
    ranks = {s.name: min(4, s.largest_useful_rank) for s in survey(plain.model).sites}
    loaded = compress(plain, Plan(ranks), tmp_path / "small")
    path = export_onnx(loaded, tmp_path / "onnx", int8=False)[0]
    dense = sum(
        4 * site.params
        for site in survey(plain.model).sites
        if site.name.startswith("encoder") and site.kind == "lstm_recurrent"
    )
    in_memory = weights_in_memory_mib(path) * 2**20
    assert dense < in_memory < dense + 4 * floats(path)


# --- the verb ---


def test_the_verb_exports_and_decodes(small, shrink):
    command = ["export", "--exp", "exp/small", "--onnx", "--out", "exp/small/onnx"]
    ended = shrink(*command)
    assert ended.status == 0 and "encoder.onnx (0.0" in ended.out
    names = {path.name for path in Path("exp/small/onnx").iterdir()} - {".lock"}
    assert names == {"encoder.onnx", "ctc.onnx", "decoder_step.onnx", "meta.yaml", "settings.yaml"}
    before = tree(Path("exp/small"))
    assert shrink(*command).status == 0 and tree(Path("exp/small")) == before

    ended = shrink(*command, "--int8", "--data", "dump/raw/test")
    assert ended.status == 0 and "test: ONNX int8, CTC greedy: WER " in ended.out
    assert {n: c for n, c in tree(Path("exp/small")).items() if n in before} == before
    rows = read_yaml("exp/small/onnx/results.yaml")["rows"]
    assert list(rows) == ["torch, CTC greedy", "ONNX, CTC greedy", "ONNX int8, CTC greedy"]
    torchs, onnxs, int8 = rows.values()
    assert onnxs["wer"] == torchs["wer"] and onnxs["cer"] == torchs["cer"]
    assert 0 < onnxs["rtf"]["test"] < 1
    for row, suffix in ((onnxs, ""), (int8, ".int8")):
        files = [
            Path(f"exp/small/onnx/{n}{suffix}.onnx") for n in ("encoder", "ctc", "decoder_step")
        ]
        assert row["size_mib"] * 2**20 == sum(path.stat().st_size for path in files)
    assert torchs["size_mib"] * 2**20 == small.checkpoint.stat().st_size

    assert shrink(*command, "--data", "dump/raw/dev").status == 0
    rows = read_yaml("exp/small/onnx/results.yaml")["rows"]
    assert set(rows["ONNX, CTC greedy"]["wer"]) == {"test", "dev"}
    assert set(rows["ONNX int8, CTC greedy"]["wer"]) == {"test"}


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages_one_line_says_what_to_install(small, shrink, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    ended = shrink("export", "--exp", "exp/small", "--onnx", "--out", "out")
    assert ended.status == 2 and not Path("out").exists()
    assert ended.err == (
        f"espnet-shrink export: {package} is not installed: pip install 'espnet_shrink[onnx]'\n"
    )


def rnn(**changes):
    return {**RNN, **changes}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (rnn(encoder="vgg_rnn", encoder_conf={"num_layers": 1, "hidden_size": 8, "output_size": 8}),
         "knows the encoders RNNEncoder, ConformerEncoder, TransformerEncoder, not VGGRNNEncoder"),
        (rnn(decoder_conf={"rnn_type": "gru", "att_conf": {"atype": "dot"}}),
         "knows the decoders RNNDecoder (lstm) and TransformerDecoder, not RNNDecoder"),
        (rnn(decoder_conf={"att_conf": {"atype": "coverage"}}),
         "knows the attentions location, dot and add, not AttCov"),
        (rnn(preencoder="linear", preencoder_conf={"input_size": 20, "output_size": 20}),
         "a preencoder is not exported"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_one_line(tmp_path, shrink, changes, named):
    plain_model(tmp_path / "plain", changes)
    before = tree(tmp_path)
    ended = shrink("export", "--exp", tmp_path / "plain", "--onnx", "--out", tmp_path / "out")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1 and named in ended.err
    assert tree(tmp_path) == before


def test_a_language_model_is_no_recogniser(tmp_path, shrink):
    conf = {"lm_conf": {"unit": 8, "nlayers": 1}}
    plain_model(tmp_path / "plain", conf, task="lm")
    ended = shrink("export", "--exp", tmp_path / "plain", "--onnx", "--out", tmp_path / "out")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert "is a model of the task lm: only CTC/attention recognisers" in ended.err


def test_models_with_one_head_only(tmp_path, shrink):
    ctc_only = plain_model(tmp_path / "ctc", rnn(model_conf={"ctc_weight": 1.0}))
    assert [p.name for p in export_onnx(ctc_only, tmp_path / "a", False)] == [
        "encoder.onnx", "ctc.onnx"
    ]  # fmt: skip
    attention_only = plain_model(tmp_path / "att", rnn(model_conf={"ctc_weight": 0.0}))
    assert [p.name for p in export_onnx(attention_only, tmp_path / "b", False)] == [
        "encoder.onnx", "decoder_step.onnx"
    ]  # fmt: skip
    ended = shrink("export", "--exp", tmp_path / "att", "--onnx", "--out", tmp_path / "b",
                   "--data", "dump/raw/test")  # fmt: skip
    assert ended.status == 2 and "has no CTC head" in ended.err


def test_rows_of_another_checkpoint_are_refused(small, shrink):
    command = ["export", "--exp", "exp/small", "--onnx", "--out", "onnx", "--data", "dump/raw/test"]
    assert shrink(*command).status == 0
    path = Path("onnx/results.yaml")
    path.write_text(yaml.safe_dump({**read_yaml(path), "sha256": "0"}))
    ended = shrink(*command)
    assert ended.status == 2 and "was exported from another checkpoint" in ended.err


def test_a_plain_model_is_exported_too(baseline, tmp_path):
    """The baseline beside the compressed one, in the same runtime."""
    export_onnx(baseline, tmp_path / "onnx", int8=False)
    x = features(77)
    expected, _ = encoded_by_torch(baseline, x)
    close(OnnxRecogniser(tmp_path / "onnx").encode(x), expected)
