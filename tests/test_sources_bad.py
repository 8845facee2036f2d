"""A packed model that is damaged, unsafe or unknown: one line, nothing left, nothing executed."""

import io
import pickle
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import packing
import pytest
import torch
import yaml
from conftest import tree
from packing import BPE, LM, MODEL, STATS, changed_yaml, changed_zip
from test_espnet_checkpoints import Touch

from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.sources import open_source

CONFIG, CHECKPOINT = str(MODEL / "config.yaml"), str(MODEL / "valid.acc.ave_1best.pth")
LM_CONFIG, LM_CHECKPOINT = str(LM / "config.yaml"), str(LM / "7epoch.pth")
EXECUTED = Path("executed")
TAG = "!!python/object/apply:os.system [touch executed]"


@pytest.fixture
def refused(packed, shrink):
    """Unpack an archive that must be refused; gives the line, without the archive's name."""

    def call(archive: Path | str) -> str:
        before, folders = tree(Path()), {p for p in Path().rglob("*") if p.is_dir()}
        ended = shrink("unpack", archive, "--out", "exp/new/out")
        assert ended.status == 2, ended
        start = f"espnet-shrink unpack: {archive}: "
        assert len(ended.err.splitlines()) == 1 and ended.err.startswith(start), ended.err
        assert tree(Path()) == before
        assert {p for p in Path().rglob("*") if p.is_dir()} == folders
        assert not EXECUTED.exists()
        return ended.err.removeprefix(start).strip()

    return call


def pickled() -> bytes:
    """A checkpoint that would create a file."""
    content = io.BytesIO()
    torch.save({"weight": Touch(EXECUTED)}, content)
    return content.getvalue()


def pickled_array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Touch(EXECUTED)], dtype=object), allow_pickle=True)
    return content.getvalue()


def pickled_arrays() -> bytes:
    content = io.BytesIO()
    np.savez(content, count=1, sum=np.array([Touch(EXECUTED)], dtype=object))
    return content.getvalue()


def meta(kind: str, **entries: str):
    """A change of meta.yaml: these entries of `files` or `yaml_files`."""
    return lambda content: changed_yaml(**{kind: yaml.safe_load(content)[kind] | entries})(content)


def test_the_payloads_would_do_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for load in (
        lambda: torch.load(io.BytesIO(pickled()), weights_only=False),
        lambda: np.load(io.BytesIO(pickled_array()), allow_pickle=True),
        lambda: np.load(io.BytesIO(pickled_arrays()), allow_pickle=True)["sum"],
        lambda: pickle.loads(pickle.dumps(Touch(EXECUTED))),
        lambda: yaml.unsafe_load(TAG),
    ):
        load()
        assert EXECUTED.exists()
        EXECUTED.unlink()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        # --- names ---
        ({"../evil": b""}, "'../evil' in it leaves the folder"),
        ({"exp/../../evil": b""}, "leaves the folder"),
        ({"/tmp/evil": b""}, "'/tmp/evil' in it is an absolute path"),
        ({"..\\evil": b""}, "is an absolute path"),
        ({"meta.yaml": meta("files", asr_model_file="/etc/hostname")}, "is an absolute path"),
        ({"meta.yaml": meta("files", asr_model_file="../x.pth")}, "leaves the folder"),
        ({"meta.yaml": meta("yaml_files", lm_train_config="../x.yaml")}, "leaves the folder"),
        ({"meta.yaml": meta("files", asr_model_file="no.pth")}, "no.pth (asr_model_file), which"),
        # --- meta.yaml ---
        ({"meta.yaml": None}, "no meta.yaml in it"),
        ({"meta.yaml": b"files: ["}, "its meta.yaml is not valid YAML"),
        ({"meta.yaml": b"\xff\xfe\x00"}, "its meta.yaml is not valid YAML"),
        ({"meta.yaml": TAG.encode()}, "its meta.yaml is not valid YAML"),
        ({"meta.yaml": b"- files"}, "its meta.yaml has no mapping yaml_files"),
        ({"meta.yaml": changed_yaml(files=["x"])}, "its meta.yaml has no mapping files"),
        ({"meta.yaml": changed_yaml(files={"asr_model_file": 3})}, "has no mapping files"),
        ({"meta.yaml": changed_yaml(files={})}, "names no model of these tasks"),
        (
            {"meta.yaml": changed_yaml(files={"model_file": CHECKPOINT},
                                       yaml_files={"train_config": CONFIG})},
            "asr, s2t, st, slu (it has train_config, model_file)",
        ),
        # --- pickled code ---
        ({CHECKPOINT: pickled()}, f"checkpoint {CHECKPOINT} holds pickled objects"),
        ({LM_CHECKPOINT: pickled()}, f"checkpoint {LM_CHECKPOINT} holds pickled objects"),
        ({"exp/more/other.pt": pickled()}, "exp/more/other.pt holds pickled objects"),
        ({STATS: pickled_arrays()}, f"{STATS} holds pickled objects"),
        ({STATS: pickled_array()}, f"{STATS} holds pickled objects"),
        ({STATS: pickle.dumps(Touch(EXECUTED))}, f"{STATS} holds pickled objects"),
        ({"exp/x.npy": pickled_array()}, "exp/x.npy holds pickled objects"),
        # --- damaged files ---
        ({CHECKPOINT: lambda content: content[:3000]}, "truncated or damaged"),
        ({STATS: lambda content: content[:200]}, f"{STATS} is truncated or damaged"),
        # --- configs ---
        ({CONFIG: b"- encoder"}, f"{CONFIG} is empty or no mapping"),
        ({CONFIG: b""}, f"{CONFIG} is empty or no mapping"),
        ({CONFIG: b"encoder: ["}, "a config in it is not valid YAML"),
        ({CONFIG: f"encoder: {TAG}".encode()}, "a config in it is not valid YAML"),
        ({LM_CONFIG: f"lm: {TAG}".encode()}, "a config in it is not valid YAML"),
        ({CONFIG: b"tts: vits"}, "is not the config.yaml of a trained ESPnet model"),
        ({CONFIG: changed_yaml(encoder="nosuch")}, f"{CONFIG}: unknown encoder 'nosuch'"),
        ({LM_CONFIG: changed_yaml(lm="nosuch")}, f"{LM_CONFIG}: unknown lm 'nosuch'"),
        ({LM_CONFIG: None, "meta.yaml": meta("yaml_files", lm_train_config=CONFIG)},
         f"{CONFIG} is of task asr, not of a language model"),
        # --- what the config names ---
        ({STATS: None}, f"{CONFIG} names {STATS} (stats_file), which was not packed along"),
        ({BPE: None}, f"with --option {BPE}"),
        ({CONFIG: changed_yaml(bpemodel="/etc/hostname")}, "names /etc/hostname (bpemodel)"),
        ({CONFIG: changed_yaml(non_linguistic_symbols="/etc/hostname")}, "names /etc/hostname"),
    ],
)  # fmt: skip
def test_a_changed_zip_is_refused(packed, refused, changes, named):
    changed_zip(packed / "model.zip", Path("bad.zip"), changes)
    assert named in refused("bad.zip")


def test_the_zip_without_changes_is_not(packed):
    changed_zip(packed / "model.zip", Path("good.zip"), {"exp/more.txt": b"more"})
    open_source("good.zip", Path("out"))


def test_links_and_devices_are_refused(packed, refused):
    for kind, name, target in (
        (tarfile.SYMTYPE, "exp/link", "/etc"), (tarfile.SYMTYPE, "link", ".."),
        (tarfile.LNKTYPE, "link", "../../secret"), (tarfile.CHRTYPE, "null", ""),
    ):  # fmt: skip
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        packing.tar_with(packed / "model.tgz", Path("bad.tgz"), member)
        assert refused("bad.tgz").startswith(f"{name} in it is a link or a device")
    shutil.copy(packed / "model.zip", "bad.zip")
    info = zipfile.ZipInfo("exp/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile("bad.zip", "a") as opened:
        opened.writestr(info, "/etc/passwd")
    assert refused("bad.zip").startswith("exp/link in it is a link")


def test_names_in_a_tar_are_checked_too(packed, refused):
    for name, named in (("../evil", "leaves the folder"), ("/tmp/evil", "absolute path")):
        packing.tar_with(packed / "model.tgz", Path("bad.tgz"), tarfile.TarInfo(name))
        assert named in refused("bad.tgz")


@pytest.mark.parametrize("name", ["model.zip", "model.tgz"])
def test_archives_cut_short_or_of_something_else(packed, refused, name):
    content = (packed / name).read_bytes()
    for part in (content[: len(content) // 2], content[:-60], b"", b"no archive at all" * 50):
        Path(name).write_bytes(part)
        assert refused(name).startswith("it cannot be unpacked (")


def test_a_damaged_byte_in_a_checkpoint_is_noticed(packed, refused):
    content = bytearray((packed / "model.zip").read_bytes())
    with zipfile.ZipFile(packed / "model.zip") as opened:
        info = opened.getinfo(CHECKPOINT)
    content[info.header_offset + info.file_size // 2] ^= 0xFF
    Path("bad.zip").write_bytes(content)
    assert "CRC" in refused("bad.zip")


def test_a_zip_packed_from_outside_the_recipe_names_what_to_do(packed, refused):
    """The packer notes absolute paths then, and packs files under other names."""
    files = [packed / part if isinstance(part, Path) else part for part in packing.MODEL_FILES]
    packing.pack(*files, "--outpath", "outside.zip")
    assert refused("outside.zip").endswith("is an absolute path: pack it from the recipe folder")


@pytest.mark.parametrize("key", [
    "frontend", "specaug", "normalize", "model", "preencoder", "encoder", "postencoder", "decoder",
    "preprocessor", "adapter", "optim", "scheduler",
])  # fmt: skip
@pytest.mark.parametrize("value", ["nosuch", ["rnn"], 3])
def test_a_class_that_this_espnet_lacks_is_refused_with_those_it_has(recipe, shrink, key, value):
    """Of a plain folder as well: before ESPnet builds anything of it."""
    path = Path("exp/asr/config.yaml")
    config = read_yaml(path)
    path.write_text(yaml.safe_dump(config | {key: value}))
    ended = shrink("space", "--exp", "exp/asr", "--out", "out")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert f"exp/asr/config.yaml: unknown {key} {value!r}: this ESPnet has " in ended.err
    has = ended.err.strip().rpartition(" has ")[2].split(", ")
    valid = {"adapter": ["lora", "houlsby", "espnet_shrink"], "optim": ["adam"],
             "scheduler": ["warmuplr", "cosineannealinglr"]}  # fmt: skip
    of_task = {c.name: c.classes for c in TASKS["asr"].builder().class_choices_list}
    assert set(valid.get(key, of_task.get(key))) <= set(has)
    assert not Path("out").exists()


def test_arguments_that_a_class_lacks_are_refused(recipe, shrink):
    path = Path("exp/asr/config.yaml")
    config = read_yaml(path)
    for key in ("encoder_conf", "model_conf"):
        path.write_text(yaml.safe_dump(config | {key: {**config[key], "nosuch": 1}}))
        ended = shrink("space", "--exp", "exp/asr", "--out", "out")
        assert ended.status == 2 and len(ended.err.splitlines()) == 1 and "nosuch" in ended.err


# --- the folder to unpack to ---


def test_a_folder_of_another_model_or_of_anything_else_is_left_alone(packed, shrink):
    open_source(str(packed / "model.zip"), Path("out"))
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("notes")
    Path("file").write_text("text")
    before = tree(Path())
    for out, named in (
        ("out", f"out was made for another model, {packed / 'model.zip'}: choose another folder"),
        ("mine", "mine is not empty (it has notes.txt): choose a new folder"),
        ("file", "file is a file: choose another folder"),
        ("file/out", "file/out cannot be written to: a part of its path is a file"),
    ):
        ended = shrink("unpack", packed / "model.tgz", "--out", out)
        assert ended.status == 2 and len(ended.err.splitlines()) == 1
        assert named in ended.err
        assert tree(Path()) == before


def test_a_folder_that_another_run_works_in_is_left_alone(packed, shrink):
    from espnet_shrink.core.files import lock_folder

    with lock_folder(Path("out")):
        ended = shrink("unpack", packed / "model.zip", "--out", "out")
    assert ended.status == 2 and "out is in use by another run" in ended.err
    assert [path.name for path in Path("out").iterdir()] == [".lock"]


def test_what_needs_no_unpacking_is_told_as_such(packed, shrink):
    for model in (packed / MODEL, packed / MODEL / "config.yaml", packed / CHECKPOINT):
        ended = shrink("unpack", model, "--out", "out")
        assert ended.status == 2
        assert f"needs no unpacking: use it where it is, with --exp {packed / MODEL}" in ended.err
    shutil.copy(packed / "README.md", "README.md")
    ended = shrink("unpack", "README.md", "--out", "out")
    assert ended.status == 2 and "is no experiment folder, config.yaml, checkpoint" in ended.err
    assert not Path("out").exists()


def test_a_checkpoint_cannot_be_chosen_in_what_has_one(packed):
    for model in (packed / "model.zip", packed / CHECKPOINT, "espnet/tag"):
        with pytest.raises(ShrinkError, match="says itself which checkpoint it means"):
            open_source(str(model), Path("out"), "valid.loss.ave.pth")
