"""Why a matrix is no site."""

from __future__ import annotations

import torch
from torch import nn

NO_SITE: list[tuple[type[nn.Module], str]] = [
    (nn.Embedding, "embedding with sparse gradients, max_norm or scale_grad_by_freq"),
    (nn.MultiheadAttention, "joint projection of torch's attention, which reads the matrix itself"),
    (nn.modules.conv._ConvTransposeNd, "transposed convolution: not a plain matrix product"),
    (nn.LSTM, "LSTM with a projection, or a subclass: no low-rank layer for it"),
    (nn.GRU, "a subclass of GRU: no low-rank layer for it"),
    (nn.RNN, "RNN without gates: no low-rank layer for it"),
]

LEAF_NAMES = {
    "pos_bias_u": "a bias of relative positions: added to the queries",
    "pos_bias_v": "a bias of relative positions: added to the queries",
    "positional_embedding": "learned positions: added, nothing is multiplied",
    "weight_g": "part of a reparametrised weight (weight norm)",
    "weight_v": "part of a reparametrised weight (weight norm)",
    "weight_orig": "part of a reparametrised weight (spectral norm)",
}


def reason_of(name: str, module: nn.Module) -> str:
    """Why `module` has no low-rank twin for its parameter `name`, a dotted name."""
    leaf = name.rpartition(".")[2]
    if leaf in LEAF_NAMES:
        return LEAF_NAMES[leaf]
    if isinstance(module, torch.nn.utils.parametrize.ParametrizationList):
        return "part of a reparametrised weight"
    if type(module).__name__ == "SincConv":
        return "cut-off frequencies of sinc filters"
    for kind, reason in NO_SITE:
        if isinstance(module, kind):
            return reason
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.groups == 1:
            return "convolution of kernel size above 1, or padded: not a plain matrix product"
        depthwise = module.groups == module.in_channels
        return f"{'depthwise' if depthwise else 'grouped'} convolution: no matrix over all channels"
    return f"no low-rank layer for {type(module).__name__}"
