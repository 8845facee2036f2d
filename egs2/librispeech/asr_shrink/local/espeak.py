"""The espeak-ng engine, called through ctypes on the library that `espeakng-loader` ships.

API: espeak-ng's speak_lib.h, https://github.com/espeak-ng/espeak-ng
"""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Voice:
    """`name`: espeak's language+variant; `rate`: words per minute; `pitch`, `pitch_range`: 0-99."""

    name: str
    rate: int
    pitch: int
    pitch_range: int


class Espeak:
    """One engine in one process.

    espeak-ng keeps hidden state from one utterance to the next (the phase of a voice's flutter), so
    the same samples come out only if a fresh process says the same sentences in the same order.
    """

    _alive = False

    def __init__(self) -> None:
        if Espeak._alive:
            raise RuntimeError("espeak-ng keeps state: one Espeak per process")
        Espeak._alive = True
        # The library cuts long paths short, and a virtual environment's may be long.
        self._link = tempfile.TemporaryDirectory(prefix="espeak-")
        data = Path(self._link.name) / "espeak-ng-data"
        data.symlink_to(espeakng_loader.get_data_path())
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate_hz: int = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise RuntimeError(f"espeak-ng did not start with the data in {data}")
        self._chunks: list[NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._receive)  # kept: ctypes does not own it
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count: int, _events) -> int:  # type: ignore[no-untyped-def]
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: Voice, seed: int) -> NDArray[np.float32]:
        """Return the speech, shape (samples,), in [-1, 1) at `sample_rate_hz`.

        `seed` sets the random numbers of breath and aspiration.
        """
        self._chunks.clear()
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice.name}")
        # Half volume: loud variants clip inside the engine at full volume.
        for parameter, value in (
            (_RATE, voice.rate),
            (_VOLUME, 50),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, _CHARS_UTF8, None, None
        )
        self._library.espeak_Synchronize()
        return np.concatenate(self._chunks).astype(np.float32) / 32768.0
