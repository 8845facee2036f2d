"""What of an ESPnet recogniser can be traced: its encoder, CTC head and one step of its decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espnet_shrink.compat.graph_modules import (
    CTCGraph,
    MaskedEncoderGraph,
    RNNDecoderStep,
    RNNEncoderGraph,
    TransformerDecoderStep,
    shortest_frames,
)
from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.errors import ShrinkError

# Their state is one row of weights, or none at all.
ATTENTIONS = ("AttLoc", "AttDot", "AttAdd")
MASKED_ENCODERS = ("ConformerEncoder", "TransformerEncoder")

Dims = tuple[int | str, ...]
"""A size, or the name of one that varies."""


@dataclass(frozen=True)
class Graph:
    """A module that can be traced.

    Attributes:
        name: "encoder", "ctc" or "decoder_step".
        module: in eval mode; takes `inputs` and gives `outputs` in their order.
        inputs, outputs: name -> dims, all with a batch of 1.
        example: a number of frames -> random inputs of about that length.
        shortest_frames: the fewest that it takes.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Dims]
    outputs: Mapping[str, Dims]
    example: Callable[[int], tuple[Tensor, ...]]
    shortest_frames: int = 1


def graphs_of(loaded: LoadedModel) -> list[Graph]:
    """The graphs of a speech recogniser; it is copied, and stays as it is.

    Raises:
        ShrinkError: a kind of model, encoder or decoder that cannot be traced here.
    """
    if loaded.task.name != "asr":
        raise ShrinkError(
            f"{loaded.config} is a model of the task {loaded.task.name}: "
            "only CTC/attention recognisers (task asr) are exported to ONNX"
        )
    model = copy.deepcopy(loaded.model).eval()
    for name in ("preencoder", "postencoder"):
        if getattr(model, name, None) is not None:
            raise ShrinkError(f"{loaded.config}: a {name} is not exported to ONNX")
    graphs = [_encoder(model, loaded)]
    if model.ctc is not None:
        graphs.append(_ctc(model))
    if model.decoder is not None:
        graphs.append(_decoder(model, loaded))
    for graph in graphs:
        graph.module.eval()  # the exporter gives every part the mode of the whole
    return graphs


def _encoder(model: SpeechModel, loaded: LoadedModel) -> Graph:
    kind = type(model.encoder).__name__
    width = _feature_size(model, loaded)
    shortest = 1
    if kind == "RNNEncoder":
        module: nn.Module = RNNEncoderGraph(model.encoder)
    elif kind in MASKED_ENCODERS:
        module = MaskedEncoderGraph(model.encoder)
        with torch.no_grad():
            shortest = shortest_frames(module, width)
    else:
        known = ", ".join(("RNNEncoder", *MASKED_ENCODERS))
        raise ShrinkError(f"{loaded.config}: ONNX export knows the encoders {known}, not {kind}")
    return Graph(
        "encoder", module, {"features": (1, "frames", width)},
        {"encoded": (1, "encoded_frames", model.encoder.output_size()), "encoded_length": (1,)},
        lambda frames: (torch.randn(1, frames, width),), shortest,
    )  # fmt: skip


def _feature_size(model: SpeechModel, loaded: LoadedModel) -> int:
    if model.frontend is not None:
        return int(model.frontend.output_size())
    return int(loaded.args.input_size)


def _ctc(model: SpeechModel) -> Graph:
    width = model.encoder.output_size()
    return Graph(
        "ctc", CTCGraph(model.ctc), {"encoded": (1, "encoded_frames", width)},
        {"log_probs": (1, "encoded_frames", model.vocab_size)},
        lambda frames: (torch.randn(1, frames, width),),
    )  # fmt: skip


def _decoder(model: SpeechModel, loaded: LoadedModel) -> Graph:
    decoder = model.decoder
    encoded: Dims = (1, "encoded_frames", model.encoder.output_size())
    log_probs: Dims = (1, model.vocab_size)

    def random_encoded(frames: int) -> Tensor:
        return torch.randn(1, frames, model.encoder.output_size())

    kind = type(decoder).__name__
    if kind == "TransformerDecoder":
        return Graph(
            "decoder_step", TransformerDecoderStep(decoder),
            {"tokens": (1, "tokens"), "encoded": encoded}, {"log_probs": log_probs},
            lambda frames: (
                torch.randint(model.vocab_size, (1, frames // 5 + 1)), random_encoded(frames),
            ),
        )  # fmt: skip
    if kind != "RNNDecoder" or decoder.dtype != "lstm" or decoder.num_encs != 1:
        raise ShrinkError(
            f"{loaded.config}: ONNX export knows the decoders RNNDecoder (lstm) and "
            f"TransformerDecoder, not {kind}"
        )
    attention = type(decoder.att_list[0]).__name__
    if attention not in ATTENTIONS:
        raise ShrinkError(
            f"{loaded.config}: ONNX export knows the attentions location, dot and add, "
            f"not {attention}"
        )
    state = (int(decoder.dlayers), 1, int(decoder.dunits))
    weights: Dims = (1, "encoded_frames")
    return Graph(
        "decoder_step", RNNDecoderStep(decoder),
        {"token": (1,), "h": state, "c": state, "attention": weights, "encoded": encoded},
        {"log_probs": log_probs, "new_h": state, "new_c": state, "new_attention": weights},
        lambda frames: (
            torch.randint(model.vocab_size, (1,)), torch.randn(state), torch.randn(state),
            torch.softmax(torch.randn(1, frames), -1), random_encoded(frames),
        ),
    )  # fmt: skip
