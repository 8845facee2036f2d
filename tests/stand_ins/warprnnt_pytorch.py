"""The transducer loss that ESPnet takes from outside of PyPI, over torchaudio's.

This folder goes on the search path of what builds a transducer model, a program's as well.
"""

import torchaudio


class RNNTLoss:
    """warprnnt's interface over torchaudio's transducer loss."""

    def __init__(self, blank=0, fastemit_lambda=0.0, reduction="mean"):
        self.blank, self.reduction = blank, reduction

    def __call__(self, logits, targets, logit_lengths, target_lengths):
        return torchaudio.functional.rnnt_loss(
            logits, targets.int(), logit_lengths.int(), target_lengths.int(),
            blank=self.blank, reduction=self.reduction,
        )  # fmt: skip
