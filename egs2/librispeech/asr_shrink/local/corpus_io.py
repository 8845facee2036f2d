"""What the corpus programs share: Kaldi folders, folders made whole, one-line errors."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from espnet_shrink.core.files import claim_folder, lock_folder
from espnet_shrink.errors import ShrinkError

SAMPLE_RATE_HZ = 16000


@dataclass(frozen=True)
class Utterance:
    """One line of each file of a Kaldi folder. `utt_id` starts with `speaker` and a hyphen."""

    utt_id: str
    speaker: str
    audio: Path
    text: str


def write_kaldi_folder(folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write wav.scp, text, utt2spk and spk2utt, sorted as `LC_ALL=C sort`, and swap the folder in.

    A folder that holds just that already is left alone.

    Raises:
        ShrinkError: there is no utterance, or two share an id.
    """
    ordered = sorted(utterances, key=lambda u: u.utt_id.encode())
    if not ordered:
        raise ShrinkError(f"no utterances for {folder}: check the corpus folder")
    for one, two in zip(ordered, ordered[1:], strict=False):
        if one.utt_id == two.utt_id:
            raise ShrinkError(f"{two.audio}: {one.audio} has the same id: remove one")
    by_speaker: dict[str, list[str]] = defaultdict(list)
    for utterance in ordered:
        by_speaker[utterance.speaker].append(utterance.utt_id)
    lines_of = {
        "wav.scp": [f"{u.utt_id} {u.audio}" for u in ordered],
        "text": [f"{u.utt_id} {u.text}" for u in ordered],
        "utt2spk": [f"{u.utt_id} {u.speaker}" for u in ordered],
        "spk2utt": [
            f"{s} {' '.join(ids)}"
            for s, ids in sorted(by_speaker.items(), key=lambda item: item[0].encode())
        ],
    }
    files = {name: ("\n".join(lines) + "\n").encode() for name, lines in lines_of.items()}
    if all((folder / n).is_file() and (folder / n).read_bytes() == files[n] for n in files):
        return
    beside = folder.with_name(f".{folder.name}.part")
    remove_folder(beside)
    beside.mkdir(parents=True)
    for name, content in files.items():
        (beside / name).write_bytes(content)
    remove_folder(folder)
    os.replace(beside, folder)


def write_flac(path: Path, audio: NDArray[np.floating]) -> None:
    """Write `audio`, shape (samples,) in [-1, 1], as 16 kHz 16-bit FLAC."""
    encoded = io.BytesIO()  # Python's own write, unlike libsndfile's, tells of a full disk
    soundfile.write(encoded, audio, SAMPLE_RATE_HZ, "PCM_16", format="FLAC")
    path.write_bytes(encoded.getvalue())


def already_made(folder: Path, settings: dict[str, Any]) -> bool:
    """Tell whether `folder` was made whole with `settings`.

    Raises:
        ShrinkError: it was made with other settings, or by something else.
    """
    if not folder.exists():
        return False
    if not (folder / "settings.yaml").is_file():
        raise ShrinkError(f"{folder} was made by something else: move it, or name another folder")
    claim_folder(folder, settings)
    return True


def remove_folder(folder: Path) -> None:
    """Remove `folder` and all below it, if it exists."""
    if folder.exists():
        shutil.rmtree(folder)


@contextlib.contextmanager
def making(folder: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; name it `folder` when the block ends well.

    Raises:
        ShrinkError: another process is making it.
    """
    beside = folder.with_name(f"{folder.name}.part")
    with lock_folder(beside):
        for left_over in beside.iterdir():
            if left_over.is_dir():
                remove_folder(left_over)
            elif left_over.name != ".lock":
                left_over.unlink()
        yield beside
        claim_folder(beside, settings)
        (beside / ".lock").unlink()
        os.replace(beside, folder)


def run(main: Callable[[], None]) -> None:
    """Run `main`; print bad input as one line and exit with status 2."""
    try:
        main()
        return
    except ShrinkError as error:
        message = str(error)
    except OSError as error:
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror}: mend that and run again"
    # Out here the traceback is gone, and with it the progress bar on the message's line.
    print(message, file=sys.stderr)
    sys.exit(2)
