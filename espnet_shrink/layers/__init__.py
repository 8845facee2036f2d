"""Low-rank drop-ins for torch's Linear, LSTM and LSTMCell.

A factored matrix W (out, in) is stored as U (out, r) and V (r, in) with W = U V.
Nothing here knows of ESPnet.
"""

from espnet_shrink.layers.factors import balanced_svd
from espnet_shrink.layers.fused import padded_lstm_forward
from espnet_shrink.layers.linear import LowRankLinear
from espnet_shrink.layers.lstm import LowRankLSTM
from espnet_shrink.layers.lstm_cell import LowRankLSTMCell
from espnet_shrink.layers.patch import use_padded_lstm

__all__ = [
    "LowRankLSTM",
    "LowRankLSTMCell",
    "LowRankLinear",
    "balanced_svd",
    "padded_lstm_forward",
    "use_padded_lstm",
]
