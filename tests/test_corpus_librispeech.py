"""Preparing and downloading LibriSpeech, or any corpus in its layout."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = REPOSITORY / "egs2" / "librispeech" / "asr_shrink"
TEMPLATE = REPOSITORY / "egs2" / "TEMPLATE" / "asr1"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


def run_local(program: str, *arguments: object, cwd: Path | None = None, **variables: str):
    """Run local/PROGRAM of the recipe."""
    command = [sys.executable] if program.endswith(".py") else ["bash"]
    return subprocess.run(
        [*command, str(RECIPE / "local" / program), *map(str, arguments)],
        cwd=cwd,
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: object) -> None:
    """The last line on stderr says it all, and the status is 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last_line = done.stderr.strip().split("\n")[-1]
    for word in words:
        assert str(word) in last_line


def make_recipe(folder: Path) -> Path:
    """A recipe folder as in an ESPnet tree, with its data to be."""
    recipe = folder / "egs2" / "librispeech" / "asr_shrink"
    recipe.mkdir(parents=True)
    for name in ("local", "db.sh"):
        (recipe / name).symlink_to(RECIPE / name)
    for name in ("path.sh", "cmd.sh", "utils"):
        (recipe / name).symlink_to(TEMPLATE / name)
    return recipe


def write_tone(
    path: Path, rate_hz: int = 16000, seconds: float = 0.5, pitch_hz: float = 300
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch_hz * time_s), rate_hz)


def read_scp(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    assert lines == sorted(lines, key=lambda line: line.split()[0].encode())
    return dict(line.split(" ", 1) for line in lines)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two chapters of train-clean-100, one each of dev-clean and dev-other."""
    root = tmp_path / "corpus"
    for subset, speaker, chapter in (
        ("train-clean-100", "103", "1240"),
        ("train-clean-100", "1034", "121"),
        ("dev-clean", "84", "121"),
        ("dev-other", "116", "288"),
    ):
        folder = root / subset / speaker / chapter
        ids = [f"{speaker}-{chapter}-{number:04d}" for number in range(3)]
        for utt_id in ids:
            write_tone(folder / f"{utt_id}.flac")
        (folder / f"{speaker}-{chapter}.trans.txt").write_text(
            "".join(f"{utt_id} HELLO WORLD\n" for utt_id in ids)
        )
    return root


def prepare(corpus: Path, out: Path, *subsets: str) -> subprocess.CompletedProcess[str]:
    subsets = subsets or ("train-clean-100",)
    return run_local(
        "prepare_librispeech.py", "--corpus_dir", corpus, "--subset", *subsets, "--out", out
    )


def test_makes_a_sorted_kaldi_folder_with_plain_audio_paths(corpus: Path, tmp_path: Path) -> None:
    done = prepare(corpus, tmp_path / "data" / "train_clean_100")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "train_clean_100"
    assert {p.name for p in folder.iterdir()} == {"wav.scp", "text", "utt2spk", "spk2utt"}
    wav, text, speakers, utterances = (
        read_scp(folder / name) for name in ("wav.scp", "text", "utt2spk", "spk2utt")
    )
    assert wav.keys() == text.keys() == speakers.keys() and len(wav) == 6
    assert set(text.values()) == {"HELLO WORLD"}
    assert all(soundfile.info(path).samplerate == 16000 for path in wav.values())
    assert all(utt_id.startswith(f"{speaker}-") for utt_id, speaker in speakers.items())
    assert list(utterances) == ["103", "1034"] == list(dict.fromkeys(speakers.values()))
    assert [u for ids in utterances.values() for u in ids.split()] == list(wav)


def test_several_parts_make_one_set_and_the_librispeech_folder_is_found(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "downloads").mkdir()
    corpus.rename(tmp_path / "downloads" / "LibriSpeech")
    done = prepare(tmp_path / "downloads", tmp_path / "dev", "dev-clean", "dev-other")
    assert done.returncode == 0, done.stderr
    assert set(read_scp(tmp_path / "dev" / "utt2spk").values()) == {"84", "116"}


def _remove_audio(corpus: Path) -> Path:
    path = corpus / "train-clean-100/103/1240/103-1240-0001.flac"
    path.unlink()
    return path


def _remove_line(corpus: Path) -> Path:
    path = corpus / "train-clean-100/103/1240/103-1240.trans.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    return path.with_name("103-1240-0002.flac")


def _remove_transcript(corpus: Path) -> str:
    (corpus / "train-clean-100/103/1240/103-1240.trans.txt").unlink()
    return "103-1240.trans.txt"


def _empty_text(corpus: Path) -> str:
    path = corpus / "train-clean-100/103/1240/103-1240.trans.txt"
    path.write_text(path.read_text().replace("0001 HELLO WORLD", "0001"))
    return f"{path}, line 2: nothing follows 103-1240-0001"


def _wrong_rate(corpus: Path) -> str:
    path = corpus / "train-clean-100/103/1240/103-1240-0001.flac"
    write_tone(path, rate_hz=8000)
    return f"{path}: 8000 Hz"


def _not_audio(corpus: Path) -> Path:
    path = corpus / "train-clean-100/103/1240/103-1240-0001.flac"
    path.write_bytes(b"no audio")
    return path


def _same_chapter_twice(corpus: Path) -> str:
    shutil.copytree(corpus / "train-clean-100/103", corpus / "dev-clean/103")
    return "same id"


def _no_subset(corpus: Path) -> str:
    shutil.rmtree(corpus / "train-clean-100")
    return "LIBRISPEECH="


def _no_corpus(corpus: Path) -> str:
    shutil.rmtree(corpus)
    return "LIBRISPEECH="


def _no_chapters(corpus: Path) -> str:
    shutil.rmtree(corpus)
    for subset in ("train-clean-100", "dev-clean"):
        (corpus / subset).mkdir(parents=True)
    return "no utterances"


@pytest.mark.parametrize(
    "damage",
    [
        _remove_audio, _remove_line, _remove_transcript, _empty_text, _wrong_rate, _not_audio,
        _same_chapter_twice, _no_subset, _no_corpus, _no_chapters,
    ],
)  # fmt: skip
def test_refuses_a_damaged_corpus_in_one_line_and_leaves_the_old_folder(
    damage: Callable[[Path], object], corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data" / "train"
    out.mkdir(parents=True)
    (out / "text").write_text("old\n")
    said = damage(corpus)
    assert_refused(prepare(corpus, out, "train-clean-100", "dev-clean"), said)
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("text", "old\n")]
    assert list(out.parent.iterdir()) == [out]


def test_data_sh_prepares_the_sets_it_is_asked_for(corpus: Path, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    done = run_local(
        "data.sh", "--corpus", "librispeech", "--test_sets", "dev_clean dev_other",
        cwd=recipe, LIBRISPEECH=str(corpus),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = {p.name: len(read_scp(p / "text")) for p in (recipe / "data").iterdir()}
    assert sizes == {"train_clean_100": 6, "dev": 6, "dev_clean": 3, "dev_other": 3}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--corpus", "klingon"], "unknown corpus 'klingon'"),
        (["--corpus", "librispeech"], "set LIBRISPEECH= in db.sh"),
        (["--corpus", "mini_librispeech"], "mini_librispeech: set LIBRISPEECH= in db.sh"),
        (["--corpus", "digits"], "--digits_dir"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_data_sh_refuses_in_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    done = run_local("data.sh", *arguments, cwd=recipe, LIBRISPEECH="")
    assert_refused(done, said)
    assert not (recipe / "data").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server that answers ranges: its address, its folder, the ranges it was asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    ranges: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (folder / self.path.lstrip("/")).read_bytes()
            asked = self.headers.get("Range", "")
            ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
            if asked and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder, ranges
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("have", [0, 400, 1000])
def test_a_download_goes_on_from_where_it_stopped(
    have: int, server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    url, folder, ranges = server
    content = np.random.default_rng(0).bytes(1000)
    (folder / "part.tar.gz").write_bytes(content)
    (tmp_path / "part.tar.gz.part").write_bytes(content[:have])
    code = (
        "import download_librispeech as d, pathlib, sys;"
        "d.fetch(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])"
    )
    subprocess.run(
        [
            sys.executable, "-c", code, f"{url}/part.tar.gz", str(tmp_path / "part.tar.gz"),
            hashlib.md5(content).hexdigest(),
        ],
        env={**ENVIRONMENT, "PYTHONPATH": f"{REPOSITORY}:{RECIPE / 'local'}"},
        check=True,
    )  # fmt: skip
    assert (tmp_path / "part.tar.gz").read_bytes() == content
    assert ranges == [f"bytes={have}-" if have else ""]
    assert not (tmp_path / "part.tar.gz.part").exists()


@pytest.mark.parametrize(
    ("subset", "resource", "md5"),
    [
        ("dev-clean", "12", "42e2234ba48799c1f50f24a7926300a1"),
        ("train-clean-5", "31", "5df7d4e78065366204ca6845bb08f490"),  # Mini LibriSpeech's
    ],
)
def test_a_wrong_checksum_is_refused_and_nothing_is_left(
    subset: str, resource: str, md5: str, server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    url, folder, _ = server
    (folder / resource).mkdir()
    (folder / resource / f"{subset}.tar.gz").write_bytes(b"something else")
    out = tmp_path / "downloads"
    done = run_local("download_librispeech.py", "--out", out, "--subset", subset, "--url", url)
    assert_refused(done, "MD5", md5)
    assert list(out.iterdir()) == []


def test_no_network_is_one_clear_line(tmp_path: Path) -> None:
    done = run_local(
        "download_librispeech.py", "--out", tmp_path, "--subset", "dev-clean",
        "--url", "http://127.0.0.1:9",
    )  # fmt: skip
    assert_refused(done, "http://127.0.0.1:9/12/dev-clean.tar.gz", "check the network")
    unknown = run_local("download_librispeech.py", "--out", tmp_path, "--subset", "train-dirty")
    assert_refused(unknown, "train-dirty", "dev-other")


def test_an_archive_is_extracted_to_its_part_and_then_left_alone(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "LibriSpeech").mkdir()
    (corpus / "dev-clean").rename(tmp_path / "LibriSpeech" / "dev-clean")
    out = tmp_path / "downloads"
    out.mkdir()
    # A whole archive was checked when it was fetched.
    shutil.make_archive(str(out / "dev-clean"), "gztar", tmp_path, "LibriSpeech")
    for _ in range(2):
        done = run_local("download_librispeech.py", "--out", out, "--subset", "dev-clean")
        assert done.returncode == 0, done.stderr
        assert len(list(out.glob("LibriSpeech/dev-clean/84/121/*.flac"))) == 3
        assert [p.name for p in out.iterdir()] == ["LibriSpeech"]
