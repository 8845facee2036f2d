"""What a teacher teaches: the `distil` section of a rounds preset."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.core.settings import require
from espnet_shrink.errors import ShrinkError

LOSSES = ("token_kl", "ctc_kl", "encoder_mse", "transducer_kl")
INPUTS = ("same", "clean")
TASKS = ("asr", "asr_transducer", "s2t")


@dataclass(frozen=True)
class Distil:
    """Weights of the teacher's losses (conf/rounds.yaml explains every key)."""

    token_kl: float = 0.0
    ctc_kl: float = 0.0
    encoder_mse: float = 0.0
    transducer_kl: float = 0.0
    labels: float = 1.0
    temperature: float = 1.0
    input: str = "same"
    control: bool = True

    def __post_init__(self) -> None:
        for name in (*LOSSES, "labels"):
            weight = getattr(self, name)
            require(0.0 <= weight < math.inf, f"{name} is a weight: 0 or more, not {weight:g}")
        require(0.0 < self.temperature < math.inf, "temperature must be above 0")
        require(self.input in INPUTS, f"input is {self.input!r}: choose of {', '.join(INPUTS)}")
        require(
            bool(self.losses) or self.labels == 1.0,
            f"labels is {self.labels:g}, but no loss of the teacher has a weight: give one to "
            f"{', '.join(LOSSES)}, or leave labels out",
        )

    @property
    def losses(self) -> dict[str, float]:
        """The losses that are asked for, and their weights."""
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name)}

    def __str__(self) -> str:
        losses = " + ".join(f"{weight:g} {name}" for name, weight in self.losses.items())
        return (
            f"{losses} + {self.labels:g} of the labels' own, at temperature {self.temperature:g}, "
            f"on {'the same' if self.input == 'same' else 'clean'} input"
        )


def without_labels(distil: Distil, model: SpeechModel) -> Distil:
    """`distil` where texts are the model's own guesses: if it asks for nothing, all KL that fit."""
    if distil.losses:
        return distil
    for one in (Distil(token_kl=1.0), Distil(ctc_kl=1.0), Distil(transducer_kl=1.0)):
        with contextlib.suppress(ShrinkError):
            parts_of(one, model)
            weights: dict[str, Any] = one.losses
            distil = dataclasses.replace(distil, **weights)
    return distil


def teacher_extra(distil: Distil, base: LoadedModel) -> dict[str, dict[str, Any]]:
    """The extras of a training request that let `base` teach; none if nothing is asked for.

    Raises:
        ShrinkError: a loss needs what the model does not have, or no such model can teach.
    """
    if not distil.losses:
        return {}
    if base.task.name not in TASKS:
        raise ShrinkError(
            f"distil: models of the task {base.task.name} have no teacher here (those of "
            f"{', '.join(TASKS)} have): leave distil out of the rounds preset"
        )
    parts_of(distil, base.model)
    return {"teacher": {
        "config": str(base.config), "checkpoint": str(base.checkpoint),
        "distil": dataclasses.asdict(distil),
    }}  # fmt: skip


def parts_of(distil: Distil, model: SpeechModel) -> dict[str, str]:
    """The modules of an ESPnet model that the losses look at: part -> dotted name.

    Raises:
        ShrinkError: a loss needs one that the model does not have.
    """
    there = {name for name, _ in model.named_modules()}
    transducer = "joint_network" in there
    # A lattice that is pruned, or has blanks of several lengths, has other classes.
    plain_lattice = not getattr(model, "use_k2_pruned_loss", False) and not getattr(
        model, "transducer_multi_blank_durations", None
    )
    parts = {
        "specaug": "specaug", "encoder": "encoder", "postencoder": "postencoder",
        "ctc": "ctc_lin" if "ctc_lin" in there else "ctc.ctc_lo", "decoder": "decoder",
        "joint": "joint_network",
    }  # fmt: skip
    needs = {
        "token_kl": ("decoder", "attention decoder", not transducer),
        "ctc_kl": ("ctc", "CTC head", True),
        "encoder_mse": ("encoder", "encoder", True),
        "transducer_kl": ("joint", "joint network over a whole lattice", plain_lattice),
    }  # fmt: skip
    wanted = {"encoder", "postencoder"}
    for loss in distil.losses:
        part, described, fits = needs[loss]
        if parts[part] not in there or not fits:
            raise ShrinkError(
                f"distil: {loss} needs a model with {_a(described)}, and this one has none: "
                f"leave {loss} out of the rounds preset"
            )
        wanted.add(part)
    if "joint" in wanted:
        wanted.add("decoder")
    if distil.input == "clean":
        wanted.add("specaug")
    return {part: name for part, name in parts.items() if part in wanted and name in there}


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
