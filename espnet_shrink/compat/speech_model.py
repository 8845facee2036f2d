"""What is used of ESPnet's models of speech tasks (`espnet2.*.espnet_model`, 202511 and 202611)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn


class SpeechModel(Protocol):
    """A torch module with these parts; those that a task lacks are None or absent.

    Attributes:
        encoder: (B, T, D), (B,) -> (B, T', D'), (B,), and a state.
        decoder: of attention: scores the next token; of a transducer: predicts from tokens.
        ctc: the CTC head, its matrix in `ctc_lo`.
        joint_network: of a transducer.
        frontend: audio to features; None of models that are given those.
        normalize: of features; None: they are taken as they are.
        sos, eos, blank_id: token ids.
    """

    encoder: Any
    decoder: Any
    ctc: Any
    joint_network: Any
    frontend: Any
    normalize: Any
    sos: int
    eos: int
    blank_id: int
    vocab_size: int
    transducer_multi_blank_durations: list[int]
    training: bool
    _modules: dict[str, nn.Module | None]

    def encode(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor
    ) -> tuple[Any, torch.Tensor]:
        """Audio (B, N), (B,) to encoder output (B, T, D), alone or in a tuple, and (B,)."""

    def _extract_feats(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Audio (B, N), (B,) to features (B, T, D), (B,)."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def buffers(self) -> Iterator[torch.Tensor]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...

    def register_forward_pre_hook(self, hook: Any, *, with_kwargs: bool = ...) -> Any: ...

    def register_forward_hook(self, hook: Any, *, with_kwargs: bool = ...) -> Any: ...

    def get_submodule(self, target: str) -> nn.Module: ...
