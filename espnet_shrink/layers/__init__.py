"""Low-rank drop-ins for torch's Linear, LSTM, GRU, their cells, Conv1d, Conv2d and Embedding.

A factored matrix W (out, in) is stored as U (out, r) and V (r, in) with W = U V.
Nothing here knows of ESPnet.
"""

from espnet_shrink.layers.cells import LowRankGRUCell, LowRankLSTMCell
from espnet_shrink.layers.conv import LowRankConv, is_pointwise
from espnet_shrink.layers.embedding import LowRankEmbedding, is_plain_embedding
from espnet_shrink.layers.factors import balanced_svd
from espnet_shrink.layers.fused import padded_lstm_forward
from espnet_shrink.layers.gru import LowRankGRU
from espnet_shrink.layers.int8 import Int8LowRankLSTM
from espnet_shrink.layers.linear import LowRankLinear
from espnet_shrink.layers.lstm import LowRankLSTM
from espnet_shrink.layers.patch import use_padded_lstm

__all__ = [
    "Int8LowRankLSTM",
    "LowRankConv",
    "LowRankEmbedding",
    "LowRankGRU",
    "LowRankGRUCell",
    "LowRankLSTM",
    "LowRankLSTMCell",
    "LowRankLinear",
    "balanced_svd",
    "is_plain_embedding",
    "is_pointwise",
    "padded_lstm_forward",
    "use_padded_lstm",
]
