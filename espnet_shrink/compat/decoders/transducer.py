"""Transducers: a prediction network and a joint network, at most one symbol per frame.

The same search as ESPnet's greedy one for the `transducer` decoder of its ASR task, or as its
`mbg` where there are several blanks. The models of its asr_transducer task know no greedy search of
their own; they get this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.compat.text import Prompt

MOST_SYMBOLS = 4  # per frame, of a transducer with several blanks


class _Prediction:
    """The prediction network of either task, a label at a time."""

    def __init__(self, model: SpeechModel) -> None:
        self.decoder = model.decoder
        self.by_sequence = hasattr(self.decoder, "score_cache")  # of the asr_transducer task
        if self.by_sequence:
            self.decoder.score_cache = {}  # another plan's outputs, perhaps
        self.start = self.decoder.init_state(1)

    def __call__(self, labels: list[int], state: Any) -> tuple[torch.Tensor, Any]:
        """All labels so far and the state before the last -> output (D) and the state after it."""
        if self.by_sequence:
            out, state = self.decoder.score(labels, state)
        else:
            out, state = self.decoder.rnn_forward(
                self.decoder.embed(torch.tensor([labels[-1:]])), state
            )
        return out.flatten(), state


def greedy(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """The best symbol of each frame; a blank (id 0) leaves the prediction network where it is."""
    if getattr(model, "transducer_multi_blank_durations", None):
        return [
            _several_blanks(model, rows[:length], prompt.first[0])
            for rows, length, prompt in zip(encoded, lengths.tolist(), prompts, strict=True)
        ]
    predict = _Prediction(model)
    out, state = predict([0], predict.start)
    outputs = out.repeat(len(encoded), 1)
    states = [state] * len(encoded)
    labels: list[list[int]] = [[0] for _ in encoded]
    limits = lengths.tolist()
    for t in range(max(limits)):
        best = model.joint_network(encoded[:, t], outputs).argmax(dim=-1).tolist()
        for row, symbol in enumerate(best):
            if symbol != 0 and t < limits[row]:
                labels[row].append(symbol)
                outputs[row], states[row] = predict(labels[row], states[row])
    return [sequence[1:] for sequence in labels]


def _several_blanks(model: SpeechModel, encoded: torch.Tensor, blank: int) -> list[int]:
    """At most four symbols per frame; a big blank skips frames (ESPnet's search_type mbg).

    The big blanks are right before the blank, in the order of their durations, longest last in
    the config and first in the token list.
    """
    durations = [*reversed(model.transducer_multi_blank_durations), 1]
    lowest = blank + 1 - len(durations)
    predict = _Prediction(model)
    labels = [blank]
    out, state = predict(labels, predict.start)
    t = 0
    while t < len(encoded):
        step = 1
        for _ in range(MOST_SYMBOLS):
            best = int(model.joint_network(encoded[t], out).argmax())
            if lowest <= best <= blank:
                step = durations[best - lowest]
                break
            labels.append(best)
            out, state = predict(labels, state)
        t += step
    return [label for label in labels[1:] if label != 0]


def teach(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]
) -> None:
    """The labels through the prediction network, and one joint of the two in every frame."""
    predicted = model.decoder(torch.tensor([list(tokens)]))
    frames = encoded.size(1)
    reached = torch.arange(frames) * predicted.size(1) // frames
    model.joint_network(encoded, predicted[:, reached])


def walk(
    model: SpeechModel, encoded: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[int]
) -> None:
    """The same, as in decoding: a label and a frame at a time."""
    predict = _Prediction(model)
    out, state = predict([tokens[0]], predict.start)
    frames, said = encoded.size(1), 1
    for t in range(frames):
        model.joint_network(encoded[:, t], out[None])
        while said <= (t + 1) * (len(tokens) - 1) // frames:
            said += 1
            out, state = predict(list(tokens[:said]), state)
