"""LowRankConv and LowRankEmbedding against torch's, and int8 factors in a whole model."""

import copy

import pytest
import torch
from torch import nn
from toy import close, random_plan, toy, utterance

from espnet_shrink.errors import ShrinkError
from espnet_shrink.layers import (
    Int8LowRankLSTM,
    LowRankConv,
    LowRankEmbedding,
    LowRankLinear,
    LowRankLSTM,
)
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.sites import survey

IN, OUT, VOCABULARY, WIDTH = 7, 9, 12, 8


def conv(dimensions, bias=True, stride=1):
    return (nn.Conv1d, nn.Conv2d)[dimensions - 1](IN, OUT, 1, stride, bias=bias)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_conv_equals_torch_at_full_rank_and_the_product_below(dimensions, bias, stride):
    torch.manual_seed(0)
    dense = conv(dimensions, bias, stride)
    for rank in (IN, 3):
        low = LowRankConv.from_dense(dense, rank)
        wanted = low.to_dense() if rank < IN else dense
        for shape in ((4, IN, *(6, 5)[:dimensions]), (IN, *(6, 5)[:dimensions])):
            found = []
            for module in (low, wanted):
                x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
                module.zero_grad()
                y = module(x)
                y.sin().sum().backward()
                found.append((y, x.grad))
            close(found[0], found[1])
            g = wanted.weight.grad.flatten(1)
            close(low.U.weight.grad.flatten(1), g @ low.V.weight.flatten(1).T)
            close(low.V.weight.grad.flatten(1), low.U.weight.flatten(1).T @ g)
        close(low.weight, wanted.weight)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_conv_has_the_attributes_of_torchs(dimensions):
    dense = conv(dimensions, False, 2).eval()
    low = LowRankConv.from_dense(dense, 3)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation",
                 "groups", "padding_mode", "bias", "training"):  # fmt: skip
        assert getattr(low, name) == getattr(dense, name), name
    back = low.to_dense()
    assert type(back) is type(dense) and back.stride == dense.stride and back.bias is None
    ones = (1,) * dimensions
    shapes = {name: tuple(p.shape) for name, p in low.state_dict().items()}
    assert shapes == {"V.weight": (3, IN, *ones), "U.weight": (OUT, 3, *ones)}


@pytest.mark.parametrize(
    "dense",
    [nn.Conv1d(4, 6, 3), nn.Conv1d(4, 6, 1, padding=1), nn.Conv1d(4, 6, 1, groups=2)],
)
def test_only_pointwise_convolutions_are_factorised(dense):
    with pytest.raises(ShrinkError, match="cannot be factorised"):
        LowRankConv.from_dense(dense, 2)


def test_conv_takes_given_factors_and_refuses_others():
    u, v = torch.randn(OUT, 2), torch.randn(2, IN)
    close(LowRankConv.from_dense(conv(2), 2, (u, v)).weight[:, :, 0, 0], u @ v)
    with pytest.raises(ShrinkError, match="factors have shapes"):
        LowRankConv.from_dense(conv(1), 3, (u, v))
    with pytest.raises(ShrinkError, match="weight: rank 8 of a 9 x 7 matrix"):
        LowRankConv(IN, OUT, 8)


TOKENS = torch.tensor([[0, 3, 5, 3], [11, 2, 2, 0]])


def look_up(embedding, tokens):
    embedding.zero_grad()
    y = embedding(tokens)
    y.sin().sum().backward()
    return y


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("tokens", [TOKENS, torch.tensor(4)], ids=["batch", "scalar"])
def test_embedding_equals_torch_at_full_rank_and_the_product_below(padding_idx, tokens):
    torch.manual_seed(0)
    dense = nn.Embedding(VOCABULARY, WIDTH, padding_idx)
    for rank in (WIDTH, 3):
        low = LowRankEmbedding.from_dense(dense, rank)
        wanted = low.to_dense() if rank < WIDTH else dense
        close(look_up(low, tokens), look_up(wanted, tokens))
        close(low.weight_U.grad, wanted.weight.grad @ low.weight_V.T)
        close(low.weight_V.grad, low.weight_U.T @ wanted.weight.grad)
        close(low.weight, wanted.weight)
        assert wanted.padding_idx == low.padding_idx == dense.padding_idx


def test_the_padding_row_is_exactly_zero_and_padding_gives_no_gradient():
    for low in (LowRankEmbedding.from_dense(nn.Embedding(VOCABULARY, WIDTH, 2), 3),
                LowRankEmbedding(VOCABULARY, WIDTH, 3, 2)):  # fmt: skip
        y = look_up(low, torch.tensor([2, 2]))
        assert not y.any() and not low.weight_U.grad.any() and not low.weight_V.grad.any()


def test_a_padding_row_that_is_not_zero_is_kept_but_gets_no_gradient():
    """As of a table that is tied to an output layer, which trains that row."""
    dense = nn.Embedding(VOCABULARY, WIDTH, 2)
    nn.init.normal_(dense.weight)
    low = LowRankEmbedding.from_dense(dense, WIDTH)
    close(look_up(low, torch.tensor([2])), dense(torch.tensor([2])))
    assert not low.weight_U.grad.any() and not low.weight_V.grad.any()


def test_embedding_has_what_espnets_whisper_decoder_reads():
    dense = nn.Embedding(VOCABULARY, WIDTH)
    low = LowRankEmbedding.from_dense(dense, 3)
    for name in ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type",
                 "scale_grad_by_freq", "sparse"):  # fmt: skip
        assert getattr(low, name) == getattr(dense, name), name
    x = torch.randn(2, 5, WIDTH)
    logits = x @ torch.transpose(low.weight.to(x.dtype), 0, 1)
    close(logits, x @ low.to_dense().weight.T)
    shapes = {name: tuple(p.shape) for name, p in low.state_dict().items()}
    assert shapes == {"weight_U": (VOCABULARY, 3), "weight_V": (3, WIDTH)}


def test_fresh_products_have_the_variance_of_torchs_initialisation():
    torch.manual_seed(0)
    assert LowRankEmbedding(300, 200, 16).weight.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("option", ["sparse", "scale_grad_by_freq", "max_norm"])
def test_embeddings_that_are_more_than_a_table_are_refused(option):
    dense = nn.Embedding(VOCABULARY, WIDTH, **{option: True})
    with pytest.raises(ShrinkError, match="cannot be factorised"):
        LowRankEmbedding.from_dense(dense, 2)


def test_a_compressed_model_is_quantised_dynamically_and_still_works():
    """Linear and LSTM factors become int8; LSTMs stay float unless they are asked for."""
    model, (x, tokens) = toy(), utterance(9)
    sites = survey(model).sites
    plan = random_plan(sites, 5)
    assert {"proj.weight", "birnn.weight_hh_l1"} <= plan.factored.keys()
    parts = decompose_sites(dict(model.named_parameters()), sites, None)
    factorise(model, plan, factors_of(plan, parts))
    quantised = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(model), {nn.Linear, nn.LSTM}, dtype=torch.qint8
    )
    int8 = torch.ao.nn.quantized.dynamic.Linear
    assert type(quantised.proj) is LowRankLinear and type(quantised.birnn) is Int8LowRankLSTM
    linears = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert type(linears.birnn) is LowRankLSTM and type(linears.proj.U) is int8
    assert type(quantised.proj.U) is type(quantised.proj.V) is int8
    assert (quantised.proj.in_features, quantised.proj.out_features) == (14, 9)
    close(quantised.proj.weight, model.proj.weight, 0.05)
    close(quantised.proj.bias, model.proj.bias)
    with torch.no_grad():
        expected = model(x, tokens)
        assert (quantised(x, tokens) - expected).abs().max() < 0.05 * expected.abs().max()
