"""The header of an audio file."""

from __future__ import annotations

from dataclasses import dataclass

import soundfile

from espnet_shrink.errors import ShrinkError
from espnet_shrink.proxy.kaldi import Utterance


@dataclass(frozen=True)
class AudioHeader:
    """What the header of an audio file says."""

    frames: int
    rate_hz: int
    channels: int


def audio_header(utterance: Utterance) -> AudioHeader:
    """Length, sampling rate and channels of an utterance, from the header of its audio alone.

    Raises:
        ShrinkError: not readable as audio.
    """
    try:
        found = soundfile.info(utterance.audio)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ShrinkError(f"cannot read {utterance.audio} of {utterance.name} as audio") from error
    return AudioHeader(found.frames, found.samplerate, found.channels)
