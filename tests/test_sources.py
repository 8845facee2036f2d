"""Any model can be opened: a folder, its files, what ESPnet packed, or a tag; the same numbers."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path

import packing
import pytest
import soundfile
import torch
from conftest import ENVIRONMENT, python, tree
from packing import BPE, LM, MODEL, STATS

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.compat.text import text_codec
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.sources import Source, open_source

OUT = Path("out")


def numbers(root: Path, config: Path, checkpoint: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of CTC and of the decoder for an utterance and its tokens."""
    loaded = load_model(config, checkpoint)
    wav = torch.from_numpy(soundfile.read(root / "wav/dev1-01.wav", dtype="float32")[0])[None]
    ids = torch.tensor([text_codec(loaded).to_ids("ab cd")])
    with torch.no_grad():
        encoded, lengths = loaded.model.encode(wav, torch.tensor([wav.shape[1]]))
        start = torch.tensor([[loaded.model.sos, *ids[0].tolist()]])
        logits = loaded.model.decoder(encoded, lengths, start, torch.tensor([start.shape[1]]))[0]
        return loaded.model.ctc.log_softmax(encoded), logits.log_softmax(-1)


def lm_numbers(config: Path, checkpoint: Path) -> torch.Tensor:
    """Negative log-probabilities of some tokens."""
    with torch.no_grad():
        model = load_model(config, checkpoint).model
        return model.nll(torch.tensor([[2, 3, 4]]), torch.tensor([3]))[0]


@pytest.fixture
def expected(packed, monkeypatch):
    """The numbers of exp/full, in whose config paths are relative to the recipe's folder."""
    with monkeypatch.context() as there:
        there.chdir(packed)
        return numbers(packed, *find_model(MODEL))


def same(found, expected) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# --- used where they are ---


def test_a_folder_and_its_files_are_used_where_they_are(packed, monkeypatch):
    monkeypatch.chdir(packed)
    before = tree(packed)
    for model in (MODEL, MODEL / "config.yaml", MODEL / "valid.acc.ave.pth"):
        found = open_source(str(model), OUT)
        assert found == Source(
            str(model), MODEL / "config.yaml", MODEL / "valid.acc.ave.pth", None, None,
            (Path(BPE), Path(STATS)), (),
        )  # fmt: skip
    for model in (MODEL, MODEL / "config.yaml"):
        found = open_source(str(model), OUT, "valid.acc.ave_1best.pth")
        assert found.checkpoint == MODEL / "valid.acc.ave_1best.pth"
    assert tree(packed) == before and not OUT.exists()


def test_a_config_may_have_any_name(packed):
    shutil.copytree(packed / MODEL, "exp")
    Path("exp/config.yaml").rename("exp/of_last_week.yaml")
    assert open_source("exp/of_last_week.yaml", OUT).config == Path("exp/of_last_week.yaml")


# --- packed ---


@pytest.mark.parametrize("archive", ["model.zip", "model.tgz"])
def test_a_packed_model_gives_the_same_numbers_from_any_folder(
    packed, expected, archive, tmp_path, monkeypatch
):
    found = open_source(str(packed / archive), OUT)
    assert (found.config, found.checkpoint) == find_model(OUT) == (
        OUT / "config.yaml", OUT / "valid.acc.ave.pth",
    )  # fmt: skip
    assert found.checkpoint.resolve().name == "valid.acc.ave_1best.pth"
    packed_files = Path.cwd() / OUT / "packed"
    assert found.files == (packed_files / BPE, packed_files / STATS)
    assert found.documents == (OUT / "packed" / "README.md",)
    config, checkpoint = found.config.absolute(), found.checkpoint.absolute()
    (tmp_path / "third").mkdir()
    monkeypatch.chdir(tmp_path / "third")
    assert same(numbers(packed, config, checkpoint), expected)


def test_a_model_packed_by_the_command_in_a_process_of_its_own(packed, expected):
    with_paths = [f"--{key}={value}" for key, value in (
        ("asr_train_config", MODEL / "config.yaml"),
        ("asr_model_file", MODEL / "valid.acc.ave.pth"),
        ("option", STATS), ("option", BPE), ("outpath", Path.cwd() / "own.zip"),
    )]  # fmt: skip
    done = python("-m", "espnet2.bin.pack", "asr", *with_paths, cwd=packed)
    assert done.returncode == 0, done.stderr
    found = open_source("own.zip", OUT)
    assert same(numbers(packed, found.config, found.checkpoint), expected)
    assert found.lm_config is None and found.documents == ()


def test_a_language_model_that_was_packed_along_comes_along(packed):
    found = open_source(str(packed / "model.zip"), OUT)
    assert (found.lm_config, found.lm_checkpoint) == (
        OUT / "lm/config.yaml", OUT / "lm/valid.loss.ave.pth",
    )  # fmt: skip
    nll = lm_numbers(found.lm_config, found.lm_checkpoint)
    assert torch.equal(nll, lm_numbers(packed / LM / "config.yaml", packed / LM / "7epoch.pth"))
    # Also when the folder is named later.
    assert open_source("out", OUT).lm_checkpoint == found.lm_checkpoint


def test_a_packed_compressed_model_is_opened_as_it_is(small, tmp_path, monkeypatch):
    packing.pack("--asr_train_config", small.config, "--asr_model_file", small.checkpoint,
                 "--outpath", "small.zip")  # fmt: skip
    recipe, config, checkpoint = Path.cwd(), small.config.absolute(), small.checkpoint.absolute()
    monkeypatch.chdir(tmp_path)
    found = open_source(str(recipe / "small.zip"), OUT)
    assert read_yaml(found.config)["adapter_conf"] == read_yaml(config)["adapter_conf"]
    assert same(
        numbers(recipe, found.config, found.checkpoint), numbers(recipe, config, checkpoint)
    )


def test_big_files_are_there_once(packed):
    open_source(str(packed / "model.zip"), OUT)
    sizes = [path.stat().st_size for path in OUT.rglob("*.pth") if not path.is_symlink()]
    originals = [MODEL / "valid.acc.ave_1best.pth", LM / "7epoch.pth"]
    assert sorted(sizes) == sorted((packed / path).stat().st_size for path in originals)


def test_the_same_model_again_changes_nothing(packed):
    found = open_source(str(packed / "model.zip"), OUT)
    before = tree(OUT)
    shutil.copy(packed / "model.zip", "same.zip")
    for again in (packed / "model.zip", Path("same.zip")):
        assert open_source(str(again), OUT).checkpoint == found.checkpoint
        assert tree(OUT) == before
    record = read_yaml(OUT / "source.yaml")
    assert record["origin"] == str(packed / "model.zip")
    assert record["sha256"] == hashlib.sha256(Path("same.zip").read_bytes()).hexdigest()


def test_a_kill_halfway_leaves_no_model_and_the_next_run_makes_it(packed, expected, monkeypatch):
    from espnet_shrink.sources import unpacked

    child = os.fork()
    if child == 0:  # killed when all is unpacked and nothing is finished
        monkeypatch.setattr(unpacked, "_finish", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        open_source(str(packed / "model.zip"), OUT)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (OUT / "packed" / MODEL / "config.yaml").exists()
    with pytest.raises(ShrinkError, match="has no config.yaml"):
        find_model(OUT)
    (OUT / "packed" / BPE).unlink()  # the kill may have come earlier
    found = open_source(str(packed / "model.zip"), OUT)
    assert same(numbers(packed, found.config, found.checkpoint), expected)


def test_the_command_says_what_there_is(packed, shrink):
    ended = shrink("unpack", packed / "model.zip", "--out", OUT)
    assert ended.status == 0 and ended.err == ""
    said = dict(line.split(":", 1) for line in ended.out.splitlines())
    assert "train_data_path_and_name_and_type" in said.pop("left out")  # its author's data
    assert {key: value.split() for key, value in said.items()} == {
        "config": ["out/config.yaml"],
        "checkpoint": ["out/valid.acc.ave.pth", "->", f"packed/{MODEL}/valid.acc.ave_1best.pth"],
        "language model": ["out/lm/config.yaml", "out/lm/valid.loss.ave.pth"],
        "task": ["asr"],
        "see also": ["out/packed/README.md"],
    }


# --- tags ---

OPEN = """
import json, sys
from pathlib import Path
from espnet_shrink.compat.hooks import start_faster
start_faster()
from espnet_shrink.errors import ShrinkError
from espnet_shrink.sources import open_source
for number, tag in enumerate(sys.argv[1:]):
    try:
        print(json.dumps(str(open_source(tag, Path(f"out{number}")).checkpoint.resolve())))
    except ShrinkError as error:
        print(json.dumps(f"ShrinkError: {error}"))
"""


@pytest.fixture
def zoo(tmp_path):
    """espnet_model_zoo with an empty cache: (environment of processes that use it, its folder)."""
    installed = Path(find_spec("espnet_model_zoo").origin).parent
    # Some versions keep models in the package's own folder.
    copy = tmp_path / "site" / "espnet_model_zoo"
    copy.mkdir(parents=True)
    for path in installed.iterdir():
        if path.suffix in (".py", ".csv"):
            shutil.copy(path, copy)
    home = tmp_path / "home"
    root = Path(__file__).resolve().parents[1]
    return ENVIRONMENT | {
        "HOME": str(home), "HF_HOME": str(home / "hf"), "PYTHONPATH": f"{copy.parent}:{root}",
    }, copy  # fmt: skip


def opened(environment: dict[str, str], *tags: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPEN, *tags], env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_tags_come_from_the_cache_of_the_model_zoo(packed, zoo, expected):
    environment, package = zoo
    home = Path(environment["HOME"])
    # As huggingface_hub leaves a repository: files by their hash, and links to them.
    for cache in (package, home / "hf" / "hub"):
        repository = cache / "models--espnet--tiny"
        shutil.unpack_archive(packed / "model.zip", repository / "plain")
        for path in [p for p in (repository / "plain").rglob("*") if p.is_file()]:
            blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            blob.parent.mkdir(exist_ok=True)
            link = repository / "snapshots" / ("0" * 40) / path.relative_to(repository / "plain")
            link.parent.mkdir(parents=True, exist_ok=True)
            path.rename(blob)
            link.symlink_to(os.path.relpath(blob, link.parent))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
    # As the zoo leaves an archive from Zenodo, whose tag is in the table of the package.
    tag = "Shinji Watanabe/librispeech_asr_train_asr_transformer_e18_raw_bpe_sp_valid.acc.best"
    rows = [line for line in (package / "table.csv").read_text().splitlines() if tag in line]
    url = next(cell for cell in rows[-1].split(",") if cell.startswith("https://zenodo.org"))
    name = url.rpartition("/")[2].partition("?")[0]
    for cache in (package, home / ".cache" / "espnet_model_zoo"):
        folder = cache / hashlib.md5(url.encode()).hexdigest()
        folder.mkdir(parents=True)
        shutil.copy(packed / "model.zip", folder / name)

    before = tree(package / "models--espnet--tiny")
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    from_hub, from_zenodo, missing = opened(offline, "espnet/tiny", tag, "espnet/missing")
    assert Path(from_hub).parent.name == "blobs"
    assert Path(from_zenodo).is_relative_to(Path("out1/packed").absolute())
    for out in ("out0", "out1"):
        assert same(numbers(packed, *find_model(out)), expected)
        assert lm_numbers(*find_model(f"{out}/lm")).shape == (1, 4)
    assert missing.startswith("ShrinkError: espnet/missing is no file or folder, and could not be")
    assert "\n" not in missing and not Path("out2").exists()
    assert tree(package / "models--espnet--tiny") == before
    # Once made, nothing is asked of the cache, and a cache that is gone is noticed.
    shutil.rmtree(package)
    assert open_source(tag, Path("out1")).origin == tag
    shutil.rmtree(home)
    with pytest.raises(ShrinkError, match="links to is gone: delete out0"):
        open_source("espnet/tiny", Path("out0"))


def test_a_tag_that_the_hub_does_not_know(tmp_path, monkeypatch, zoo):
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    monkeypatch.chdir(tmp_path)
    hub = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{hub.server_port}"
        (found,) = opened(zoo[0] | {"HF_ENDPOINT": address}, "espnet/nosuch")
    finally:
        hub.shutdown()
    assert found == (
        "ShrinkError: no such file or folder, and no such model on Hugging Face (or a private "
        "one): espnet/nosuch"
    )
    assert not Path("out0").exists()


@pytest.mark.parametrize(
    "path",
    ["exp/asr_x", "asr_x", "/exp/x", "./x", "../x", "~/x", "a/b/c", "here/x", "some/model.zip",
     "some/model.pth", "some/config.yaml"],
)  # fmt: skip
def test_a_mistyped_path_is_told_as_such_without_asking_the_network(
    path, tmp_path, monkeypatch, shrink
):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    monkeypatch.setitem(sys.modules, "espnet_model_zoo", None)  # its import would fail
    before = set(Path().rglob("*"))
    ended = shrink("unpack", path, "--out", "out")
    assert ended.status == 2
    assert ended.err == (
        "espnet-shrink unpack: no such file or folder, and not a model tag: "
        f"{path}\n"
    )  # fmt: skip
    assert set(Path().rglob("*")) == before


def test_without_the_package_a_tag_names_it(tmp_path, monkeypatch, shrink):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "espnet_model_zoo.downloader", None)
    ended = shrink("unpack", "espnet/some_model", "--out", "out")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert "pip install espnet_model_zoo" in ended.err
    assert list(Path().iterdir()) == []
