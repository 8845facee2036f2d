"""Distillation: the uncompressed model teaches what is retrained.

Hinton et al., Distilling the Knowledge in a Neural Network (2015); Pang et al., Compression of
End-to-End Models (Interspeech 2018). The student's modules are listened to while its own forward
runs: the teacher then answers to the same input and the same previous labels, and what parts the
two is added to the loss. Validation stays what it is, so that the best epoch is chosen by the
model's own criterion.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from espnet_shrink.compat.chance import leave_nothing_to_chance
from espnet_shrink.compat.models import load_model
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.core.random_state import kept_random_state
from espnet_shrink.core.settings import settings_from
from espnet_shrink.training.extras.distil import Distil, parts_of
from espnet_shrink.training.extras.losses import (
    lattice_kl,
    output_mse,
    posterior_kl,
    real_positions,
)


@dataclass
class Call:
    """How a module was called, and what came out."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


class Teacher:
    """The extra `teacher`; its model is no part of the student's, and in no checkpoint."""

    def __init__(self, config: Path, checkpoint: Path, distil: Distil) -> None:
        self.config, self.checkpoint, self.distil = config, checkpoint, distil
        self._calls: dict[str, Call] = {}
        self._handles: list[Any] = []

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Teacher:
        """The teacher of settings that `teacher_extra` made."""
        distil = settings_from(Distil, settings["distil"], "distil")
        return cls(Path(settings["config"]), Path(settings["checkpoint"]), distil)

    def wrap(self, model: SpeechModel) -> None:
        """Let the teacher hear every training step of `model`, and add to its loss."""
        with kept_random_state():  # batches and dropout are those of a training without a teacher
            teacher = load_model(self.config, self.checkpoint).model
        self.model = teacher.requires_grad_(False)
        leave_nothing_to_chance(self.model)
        self._parts = parts_of(self.distil, model)
        logging.info("the teacher %s teaches %s", self.config, self.distil)
        model.register_forward_pre_hook(self._listen)
        model.register_forward_hook(self._teach)

    def _listen(self, model: SpeechModel, _: Any) -> None:
        """Before a forward of the student. Anew each time: an adapter replaces modules."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._calls = [], {}
        if not model.training:
            return
        for part, name in self._parts.items():
            module = model.get_submodule(name)
            if part == "specaug":
                # Kept as it was: what follows works in place.
                self._handles.append(module.register_forward_pre_hook(self._note_clean))
            else:
                hook = partial(self._note, part)
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def _note_clean(self, _: Any, args: tuple[Any, ...]) -> None:
        self._calls["specaug"] = Call(tuple(value.clone() for value in args), {}, None)

    def _note(self, part: str, _: Any, args: Any, kwargs: Any, output: Any) -> None:
        if part == "ctc" and "encoder" not in self._calls:
            return  # an encoder that is conditioned on its own CTC posteriors
        self._calls.setdefault(part, Call(args, kwargs, output))

    def _teach(self, model: SpeechModel, _: Any, output: Any) -> Any:
        """After a forward of the student: gives its output with the teacher's losses added."""
        if not model.training:
            return None
        loss, stats, weight = output
        first = next(model.parameters())
        if (first.device, first.dtype) != self._at():
            self.model.to(device=first.device, dtype=first.dtype)
        parts = self._losses()
        # 0 times an infinite loss would be no number.
        total = self.distil.labels * loss if self.distil.labels else torch.zeros_like(loss)
        for name, weight_of_loss in self.distil.losses.items():
            total = total + weight_of_loss * parts[name]
        told = {f"distil_{name}": part.detach().reshape(1) for name, part in parts.items()}
        return total, {**stats, **told}, weight

    def _at(self) -> tuple[torch.device, torch.dtype]:
        first = next(self.model.parameters())
        return first.device, first.dtype

    def _losses(self) -> dict[str, torch.Tensor]:
        calls, temperature, wanted = self._calls, self.distil.temperature, self.distil.losses
        encoded = calls.get("postencoder") or calls["encoder"]
        mine, lengths = _tensor(encoded.output[0]), encoded.output[1]
        with torch.no_grad():
            theirs = self._encode()
            answers = self._answers(theirs)
        frames = real_positions(lengths, mine.shape[1])
        losses = {}
        if "encoder_mse" in wanted:
            losses["encoder_mse"] = output_mse(mine, theirs, frames)
        if "ctc_kl" in wanted:
            losses["ctc_kl"] = posterior_kl(
                calls["ctc"].output, answers["ctc"], frames, temperature
            )
        if "token_kl" in wanted:
            logits, tokens = calls["decoder"].output[0], calls["decoder"].args[3]
            real = real_positions(tokens.to(logits.device), logits.shape[1])
            losses["token_kl"] = posterior_kl(logits, answers["decoder"], real, temperature)
        if "transducer_kl" in wanted:
            labels = calls["decoder"].args[0][:, 1:]  # the first is a blank
            losses["transducer_kl"] = lattice_kl(
                calls["joint"].output, answers["joint"], labels, lengths, temperature
            )
        return losses

    def _encode(self) -> torch.Tensor:
        """The teacher's encoder output, (B, T, D)."""
        teacher, calls = self.model, self._calls
        given, kwargs = calls["encoder"].args, dict(calls["encoder"].kwargs)
        if "ctc" in kwargs:
            kwargs["ctc"] = teacher.ctc
        if "specaug" in calls:  # the input is to be clean
            heard = calls["specaug"].args
            for module in (teacher.normalize, getattr(teacher, "preencoder", None)):
                if module is not None:
                    heard = module(*heard)
            given = (*heard, *given[2:])
        output = teacher.encoder(*given, **kwargs)
        if "postencoder" in calls:
            further = calls["postencoder"]
            output = teacher.postencoder(
                _tensor(output[0]), output[1], *further.args[2:], **further.kwargs
            )
        return _tensor(output[0])

    def _answers(self, encoded: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the teacher's heads make of its encoder's output, and the student's labels."""
        teacher, calls = self.model, self._calls
        answers = {}
        if "ctc" in calls:
            answers["ctc"] = teacher.get_submodule(self._parts["ctc"])(encoded)
        if "joint" in calls:
            teacher.decoder.set_device(encoded.device)
            heard = teacher.decoder(calls["decoder"].args[0])
            answers["joint"] = teacher.joint_network(encoded[:, :, None], heard[:, None])
        elif "decoder" in calls:
            answers["decoder"] = teacher.decoder(encoded, *calls["decoder"].args[1:])[0]
        return answers


def _tensor(output: Any) -> torch.Tensor:
    """Without the outputs of layers on the way, which intermediate CTC asks for."""
    return output[0] if isinstance(output, tuple) else output
