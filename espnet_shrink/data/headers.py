"""Every audio file that a model is to be retrained on, by its header."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.data.archive import audio_file
from espnet_shrink.data.features import fixed_length_s, sampling_rate_hz
from espnet_shrink.data.kaldi import AudioHeader, Utterance, audio_header
from espnet_shrink.errors import ShrinkError

LONGEST_SHORT_S = 5.0  # a model that cannot take so much has another fault


def check_audio(loaded: LoadedModel, utterances: Sequence[Utterance], scp: Path) -> dict[str, int]:
    """The lengths of all utterances, in samples, by name.

    Args:
        scp: what lists them, for messages.

    Raises:
        ShrinkError: one line that names the first of those that are missing, unreadable, empty,
            of another rate, of several channels, or too short for the encoder, and their number.
    """
    conf = getattr(loaded.args, "preprocessor_conf", None) or {}
    rate_hz = sampling_rate_hz(loaded)
    any_rate = bool(getattr(loaded.args, "allow_multi_rates", False))
    any_channels = bool(conf.get("force_single_channel", False))
    bad: list[str] = []
    lengths: dict[str, int] = {}
    for utterance in utterances:
        what = f"{utterance.audio} of {utterance.name}"
        try:
            if not Path(audio_file(utterance.audio)).is_file():
                raise ShrinkError(f"{what} is missing")
            header = audio_header(utterance)
            _check_header(header, what, None if any_rate else rate_hz, any_channels)
        except ShrinkError as error:
            bad.append(str(error))
            continue
        lengths[utterance.name] = header.frames
    if not bad:
        shortest = _shortest_that_fits(loaded, sorted(set(lengths.values())), rate_hz)
        bad = [
            f"{u.audio} of {u.name} has {lengths[u.name] / rate_hz:.3f} s, too short for the "
            "model's encoder"
            for u in utterances if lengths[u.name] < shortest
        ]  # fmt: skip
    if bad:
        raise ShrinkError(
            f"{len(bad)} of {len(utterances)} utterances of {scp} cannot be trained on, the first: "
            f"{bad[0]}: mend or drop them"
        )
    return lengths


def _check_header(header: AudioHeader, what: str, rate_hz: int | None, any_channels: bool) -> None:
    if header.frames < 1:
        raise ShrinkError(f"{what} holds no samples")
    if rate_hz is not None and header.rate_hz != rate_hz:
        raise ShrinkError(f"{what} is sampled at {header.rate_hz} Hz, the model wants {rate_hz} Hz")
    if header.channels != 1 and not any_channels:
        raise ShrinkError(f"{what} has {header.channels} channels")


def _shortest_that_fits(loaded: LoadedModel, lengths: Sequence[int], rate_hz: int) -> int:
    """The first of ascending `lengths`, in samples, that the encoder takes."""
    few = [length for length in lengths if length <= LONGEST_SHORT_S * rate_hz]
    if not few or not hasattr(loaded.model, "encode") or fixed_length_s(loaded) is not None:
        return 0  # of one fixed length, what is shorter is padded
    low, high = 0, len(few)  # the first that fits is in few[low:high], or none does
    if _fits(loaded, few[0]):  # nearly always
        return few[0]
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(loaded, few[middle]) else (middle + 1, high)
    return few[low] if low < len(few) else few[-1] + 1


def _fits(loaded: LoadedModel, length: int) -> bool:
    samples = torch.randn(1, length, generator=torch.Generator().manual_seed(0)) * 0.01
    try:
        with torch.no_grad():
            _, frames = loaded.model.encode(samples, torch.tensor([length]))
    except Exception:  # ESPnet's own, torch's of convolutions and padding
        return False
    return int(frames.min()) >= 1


def check_words(
    names: Mapping[str, str], to_ids: Callable[[str], list[int]], unknown: int | None, text: Path
) -> dict[str, int]:
    """Numbers of tokens by name, of texts by name.

    Raises:
        ShrinkError: a text without tokens, or most tokens are unknown to the model.
    """
    counts, missed, total, first = {}, 0, 0, ""
    for name, words in names.items():
        tokens = to_ids(words)
        if not tokens:
            raise ShrinkError(f"{text}: {name} has no text for the model: drop it")
        counts[name], total = len(tokens), total + len(tokens)
        unknowns = sum(token == unknown for token in tokens)
        first, missed = first or (name if unknowns else ""), missed + unknowns
    if missed > total / 2:
        raise ShrinkError(
            f"{text}: {100 * missed / total:.0f} % of the tokens are unknown to the model (first "
            f"in {first}): write it as the texts that the model was trained on, in the same case "
            "and script"
        )
    return counts
