#!/usr/bin/env python3
"""Download parts of LibriSpeech (https://www.openslr.org/12, /31) and extract them.

OUT/SUBSET.tar.gz is fetched from where it stopped last time, checked against the published MD5,
extracted to OUT/LibriSpeech/SUBSET and removed. A part that is there already is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from corpus_io import remove_folder, run
from tqdm import tqdm

from espnet_shrink.errors import ShrinkError

OPENSLR_URL = "https://www.openslr.org/resources"
MINI = ("train-clean-5", "dev-clean-2")  # Mini LibriSpeech's, in a folder of their own
MD5 = {
    "train-clean-5": "5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "6d7ab67ac6a1d2c993d050e16d61080d",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
}
_CHUNK_BYTES = 1 << 20


def fetch(url: str, target: Path, md5: str) -> None:
    """Fetch `url` to `target`, going on from `target`.part if that exists.

    Raises:
        ShrinkError: the server cannot be reached, or the file's MD5 is not `md5`.
    """
    part = target.with_name(f"{target.name}.part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            left = int(answer.headers.get("Content-Length", 0))
            done = have if resumed else 0
            with (
                part.open("ab" if resumed else "wb") as file,
                tqdm(initial=done, total=done + left, unit="B", unit_scale=True) as bar,
            ):
                while chunk := answer.read(_CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # else: it is whole
            raise ShrinkError(f"{url}: {error.code} {error.reason}: try again later") from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        reason = getattr(error, "reason", error) or "the connection broke"
        raise ShrinkError(
            f"{url}: {reason}: check the network and run again, it goes on from there"
        ) from error
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        part.unlink()  # whole but wrong: nothing to go on from
        raise ShrinkError(f"{url}: its MD5 is {found}, not {md5}: fetch it again, or from a mirror")
    os.replace(part, target)


def extract(archive: Path, out: Path, subset: str) -> None:
    """Extract LibriSpeech/SUBSET of `archive` to OUT/LibriSpeech/SUBSET, whole or not at all."""
    beside = out / f".{subset}.part"
    remove_folder(beside)
    try:
        with tarfile.open(archive) as tar:
            for member in tqdm(tar, desc=f"extracting {subset}", unit="file"):
                tar.extract(member, beside, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise ShrinkError(f"{archive}: {error}: remove it and run again") from error
    (out / "LibriSpeech").mkdir(exist_ok=True)
    os.replace(beside / "LibriSpeech" / subset, out / "LibriSpeech" / subset)
    remove_folder(beside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="such as downloads")
    parser.add_argument("--subset", nargs="+", required=True)
    parser.add_argument("--url", default=OPENSLR_URL, help="a mirror, with its folders 12 and 31")
    args = parser.parse_args()
    missing = [
        subset
        for subset in args.subset
        if not any((args.out / folder / subset).is_dir() for folder in ("LibriSpeech", ""))
    ]
    for subset in missing:
        if subset not in MD5:
            raise ShrinkError(f"{subset}: no such part to download: choose from {', '.join(MD5)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for subset in missing:
        archive = args.out / f"{subset}.tar.gz"
        if not archive.exists():
            resource = 31 if subset in MINI else 12
            fetch(f"{args.url}/{resource}/{subset}.tar.gz", archive, MD5[subset])
        extract(archive, args.out, subset)
        archive.unlink()


if __name__ == "__main__":
    run(main)
