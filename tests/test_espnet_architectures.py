"""ESPnet's own encoders, decoders and language models run with every matrix factorised."""

import importlib

import pytest
import torch
from toy import close, random_plan

from espnet_shrink.lowrank.build import build_from_conf, factorise, fold
from espnet_shrink.lowrank.decompose import decompose_sites, factors_of
from espnet_shrink.lowrank.sites import describe, survey
from espnet_shrink.plan import Plan

SPEECH, LENGTHS = torch.randn(2, 40, 12), torch.tensor([40, 31])
TEXT, TEXT_LENGTHS = torch.tensor([[2, 3, 4, 5], [6, 7, 1, 1]]), torch.tensor([4, 2])
TOKENS, WIDTH = 9, 16


def encode(encoder):
    return encoder(SPEECH, LENGTHS)[0]


def decode(decoder):
    memory = torch.linspace(-1, 1, 2 * 7 * WIDTH).view(2, 7, WIDTH)
    return decoder(memory, torch.tensor([7, 5]), TEXT, TEXT_LENGTHS)[0]


def predict(decoder):
    """Whole label sequences, and token by token as transducer search does."""
    state, steps = decoder.init_state(2), []
    for t in range(TEXT.shape[1]):
        step, state = decoder.rnn_forward(decoder.embed(TEXT[:, t : t + 1]), state)
        steps.append(step)
    whole = decoder(TEXT)
    close(torch.cat(steps, 1), whole)
    return whole


def score(lm):
    """Two tokens of two hypotheses, as beam search scores them, and a whole sequence."""
    first, states = lm.batch_score(TEXT[:, :1], [lm.zero_state(), lm.zero_state()], SPEECH)
    second, _ = lm.batch_score(TEXT[:, :2], states, SPEECH)
    alone, _ = lm.score(TEXT[0, :1], None, SPEECH[0])
    close(alone, first[0])
    return torch.stack([first, second]), lm(TEXT, None)[0]


def conformer(name, **conf):
    common = {"output_size": WIDTH, "attention_heads": 2, "num_blocks": 1, "input_layer": "conv2d"}
    return ("asr.encoder", name, {"input_size": 12, **common, **conf}, encode)


def lm(**conf):
    return ("lm.seq_rnn_lm", "SequentialRNNLM", {"vocab_size": 30, "unit": 12, **conf}, score)


def rnn(**conf):
    sizes = {"input_size": 12, "hidden_size": 10, "output_size": WIDTH, "num_layers": 2}
    return ("asr.encoder.rnn_encoder", "RNNEncoder", {**sizes, **conf}, encode)


def asr_decoder(name, **conf):
    sizes = {"vocab_size": TOKENS, "encoder_output_size": WIDTH}
    return ("asr.decoder", name, {**sizes, **conf}, decode)


def predictor(folder, name, rnn_type):
    sizes = {"vocab_size": TOKENS, "hidden_size": WIDTH, "num_layers": 2, "rnn_type": rnn_type}
    more = {"embed_size": WIDTH} if name == "RNNDecoder" else {}
    return (folder, name, {**sizes, **more}, predict)


CASES = {
    "conformer": (conformer("ConformerEncoder"), {"linear", "pointwise_conv"}),
    "e_branchformer": (conformer("EBranchformerEncoder", linear_units=24), {"linear"}),
    "gru encoder, projected": (
        rnn(rnn_type="gru"), {"linear", "gru_input", "gru_recurrent"},
    ),
    "gru encoder, plain": (
        rnn(rnn_type="gru", use_projection=False), {"linear", "gru_input", "gru_recurrent"},
    ),
    "lstm encoder, plain": (
        rnn(use_projection=False), {"linear", "lstm_input", "lstm_recurrent"},
    ),
    "gru decoder": (
        asr_decoder("RNNDecoder", rnn_type="gru", hidden_size=12),
        {"linear", "gru_cell_input", "gru_cell_recurrent"},
    ),
    "transformer decoder": (
        asr_decoder("TransformerDecoder", attention_heads=2, linear_units=24, num_blocks=1),
        {"linear"},
    ),
    "transducer lstm": (
        predictor("asr.decoder.transducer_decoder", "TransducerDecoder", "lstm"),
        {"lstm_input", "lstm_recurrent"},
    ),
    "transducer gru": (
        predictor("asr.decoder.transducer_decoder", "TransducerDecoder", "gru"),
        {"gru_input", "gru_recurrent"},
    ),
    "standalone transducer gru": (
        predictor("asr_transducer.decoder.rnn_decoder", "RNNDecoder", "gru"),
        {"gru_input", "gru_recurrent"},
    ),
    "lm lstm": (lm(), {"embedding", "linear", "lstm_input", "lstm_recurrent"}),
    "lm lstm, tied": (lm(tie_weights=True), {"linear", "lstm_input", "lstm_recurrent"}),
    "lm gru, tied": (
        lm(tie_weights=True, rnn_type="gru"), {"linear", "gru_input", "gru_recurrent"},
    ),
}  # fmt: skip

MODULES = {
    "ConformerEncoder": "conformer_encoder", "EBranchformerEncoder": "e_branchformer_encoder",
    "TransformerDecoder": "transformer_decoder",
}  # fmt: skip


def build(path, name, conf):
    if path == "asr.decoder":
        path = f"{path}.{MODULES.get(name, 'rnn_decoder')}"
    elif path == "asr.encoder":
        path = f"{path}.{MODULES[name]}"
    torch.manual_seed(0)
    return getattr(importlib.import_module(f"espnet2.{path}"), name)(**conf).eval()


@pytest.mark.parametrize("case", CASES)
def test_espnets_module_computes_the_same_with_factors_as_with_their_products(case):
    (path, name, conf, run), kinds = CASES[case]
    model = build(path, name, conf)
    sites = survey(model).sites
    # In models this small any table holds enough to be a site.
    assert {site.kind for site in sites} - {"embedding"} == kinds - {"embedding"}
    parts = decompose_sites(dict(model.named_parameters()), sites, None)
    plan = Plan({site.name: (site.largest_useful_rank + 1) // 2 for site in sites})  # none dense
    expected = build(path, name, conf)
    small, fresh = build(path, name, conf), build(path, name, conf)
    with torch.no_grad():
        for site, rank in plan.factored.items():
            weight = expected.get_parameter(site)
            weight.copy_(parts[site].product(rank).view_as(weight))
        factorise(small, plan, factors_of(plan, parts))
        wanted = run(expected)
        close(run(small), wanted, 1e-4)
        build_from_conf(fresh, {"base_hash": "0", "ranks": plan.ranks})
        fresh.load_state_dict(small.state_dict(), strict=True)
        close(run(fresh), run(small), 0)
        fold(small)
        close(run(small), wanted, 1e-4)
    assert list(small.state_dict()) == list(expected.state_dict())


def test_what_a_conformer_keeps_is_named():
    (path, name, conf, _), _ = CASES["conformer"]
    lines = describe(survey(build(path, name, conf)))
    reasons = {line.split(" (")[0]: line.split(": ", 1)[1] for line in lines}
    kernels = {n: reason for n, reason in reasons.items() if "conv" in n}
    assert "depthwise convolution" in kernels["encoders.0.conv_module.depthwise_conv.weight"]
    biases = {n for n, reason in reasons.items() if reason.startswith("a bias of relative")}
    assert biases == {f"encoders.0.self_attn.pos_bias_{x}" for x in "uv"}
    assert all("pointwise" not in n for n in reasons)


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_with_factors_trains(tied):
    (path, name, conf, _) = lm(tie_weights=tied)
    model = build(path, name, conf).train()
    plan = random_plan(survey(model).sites, 1)
    parts = decompose_sites(dict(model.named_parameters()), survey(model).sites, None)
    factorise(model, plan, factors_of(plan, parts))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(TEXT[:, :-1], None)[0]
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), TEXT[:, 1:].ravel()))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    # Tokens at padding_idx got no gradient through the table and stay zero.
    assert tied or not model.encoder(torch.tensor([0])).any()
