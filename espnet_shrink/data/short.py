"""Utterances that are too short for a model: nothing is recognised in them, as in ESPnet.

ESPnet's inference catches its own `TooShortUttError`. A frontend, a convolution or a pooling that
cannot take so little raises other things; it is told from a fault by what the model does with the
same, repeated until it is long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm

from espnet_shrink.compat.encoder import encode
from espnet_shrink.compat.speech_model import SpeechModel
from espnet_shrink.data.kaldi import Utterance
from espnet_shrink.errors import ShrinkError

LONG_S = 10.0
LONG_FRAMES = 1000
NAMED = 20  # in one line

_named: set[tuple[str, str]] = set()


def frontend_output(
    frontend: Callable[[torch.Tensor], torch.Tensor],
    samples: torch.Tensor,
    rate_hz: int,
    utterance: Utterance,
) -> torch.Tensor:
    """What a model's frontend makes of an utterance; no frames, if it is too short.

    Raises:
        ShrinkError: the frontend fails for another reason.
    """
    found = _none_if_short(frontend, samples, int(LONG_S * rate_hz), utterance, "frontend")
    return torch.zeros(0) if found is None else found


def empty_too_short(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    features: Sequence[torch.Tensor],
    rate_hz: int,
) -> list[torch.Tensor]:
    """`features`, without frames where the encoder cannot take so few; those are named, once.

    The shortest are passed through the encoder until it takes one.

    Raises:
        ShrinkError: all are too short, or the encoder fails for another reason.
    """

    def encoded(given: torch.Tensor) -> torch.Tensor:
        output, lengths = encode(model, given[None], torch.tensor([len(given)]))
        if int(lengths[0]) < 1:
            raise ValueError("no frame is left behind the encoder")
        return output

    result = list(features)
    for i in sorted(range(len(features)), key=lambda i: len(features[i])):
        if not len(features[i]):
            continue
        long = LONG_FRAMES if features[i].dim() > 1 else int(LONG_S * rate_hz)
        if _none_if_short(encoded, features[i], long, utterances[i], "encoder") is not None:
            break
        result[i] = features[i][:0]
    short = [u for u, given in zip(utterances, result, strict=True) if not len(given)]
    if len(short) == len(utterances):
        raise ShrinkError(
            f"all {len(short)} utterances (first: {short[0].name}, {short[0].audio}) are too short "
            "for the model: give longer ones"
        )
    _name(short)
    return result


def _none_if_short(
    call: Callable[[torch.Tensor], torch.Tensor],
    given: torch.Tensor,
    long: int,
    utterance: Utterance,
    part: str,
) -> torch.Tensor | None:
    try:
        return call(given)
    except ShrinkError:
        raise
    except Exception as error:  # ESPnet's, torch's and a frontend's own are many
        if len(given) < long:
            times = [-(-long // len(given)), *[1] * (given.dim() - 1)]
            try:
                call(given.repeat(times))
            except Exception:
                pass  # not for its length, then
            else:
                return None
        detail = " ".join(str(error).split())[:400] or type(error).__name__
        raise ShrinkError(
            f"the model's {part} cannot take {utterance.audio} of {utterance.name}: {detail}"
        ) from error


def _name(short: Sequence[Utterance]) -> None:
    """Say which utterances are too short, unless this process has said it."""
    new = [u for u in short if (u.name, u.audio) not in _named]
    _named.update((u.name, u.audio) for u in new)
    if new:
        names = ", ".join(u.name for u in new[:NAMED])
        more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
        tqdm.write(f"too short for the model, so nothing is recognised in them: {names}{more}")
