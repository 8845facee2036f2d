"""Models packed by ESPnet's own packer, with all that can come along, and variants of them."""

import contextlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import yaml

from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.core.files import read_yaml

MODEL, LM = Path("exp/full"), Path("exp/lm")
STATS, BPE = "exp/stats/feats_stats.npz", "data/bpe/bpe.model"
MODEL_FILES = ["--asr_train_config", MODEL / "config.yaml",
               "--asr_model_file", MODEL / "valid.acc.ave_1best.pth"]  # fmt: skip
LM_FILES = ["--lm_train_config", LM / "config.yaml", "--lm_file", LM / "7epoch.pth"]
OPTIONS = ["--option", STATS, "--option", BPE, "--option", "README.md"]


def pack(*arguments: object) -> None:
    """espnet2.bin.pack asr ARGUMENTS, in this process."""
    from espnet2.bin.pack import main

    with contextlib.redirect_stdout(io.StringIO()):
        main(["asr", *map(str, arguments)])


def make() -> None:
    """Make exp/full, exp/lm, model.zip of both and model.tgz without LM in the recipe's folder."""
    bpe_model()
    full_model()
    language_model()
    Path("README.md").write_text("license: cc-by-4.0\n")
    pack(*MODEL_FILES, *LM_FILES, *OPTIONS, "--outpath", "model.zip")
    pack(*MODEL_FILES, *OPTIONS, "--outpath", "model.tgz")


def bpe_model() -> None:
    """data/bpe/bpe.model: one piece for each letter, and one for the beginning of a word."""
    lines = Path("dump/raw/train/text").read_text().splitlines()
    Path(BPE).parent.mkdir(parents=True)
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter([line.partition(" ")[2] for line in lines]), vocab_size=8,
        model_type="bpe", model_prefix=BPE.removesuffix(".model"), minloglevel=2,
    )  # fmt: skip


def full_model() -> None:
    """exp/full: exp/asr with BPE and global normalisation, their files by relative paths."""
    config = read_yaml("exp/asr/config.yaml")
    tokens = ["▁" if token == "<space>" else token for token in config["token_list"]]
    count, generator = 1000, np.random.default_rng(5)
    mean = generator.normal(-6.0, 2.0, 20)
    Path(STATS).parent.mkdir(parents=True)
    np.savez(STATS, count=count, sum=count * mean, sum_square=count * (mean**2 + 4.0))
    config |= {"token_type": "bpe", "bpemodel": BPE, "token_list": tokens,
               "normalize": "global_mvn", "normalize_conf": {"stats_file": STATS}}  # fmt: skip
    MODEL.mkdir()
    (MODEL / "config.yaml").write_text(yaml.safe_dump(config))
    state = torch.load("exp/asr/valid.acc.ave.pth", weights_only=True)
    model, _ = TASKS["asr"].builder().build_model_from_file(MODEL / "config.yaml")
    new = {name: value for name, value in model.state_dict().items() if name not in state}
    assert all(name.startswith("normalize.") for name in new) and new
    torch.save({**state, **new}, MODEL / "valid.acc.ave_1best.pth")
    (MODEL / "valid.acc.ave.pth").symlink_to("valid.acc.ave_1best.pth")


def language_model() -> None:
    """exp/lm: an untrained one."""
    task = TASKS["lm"].builder()
    config = task.get_default_config() | {
        "token_list": read_yaml(MODEL / "config.yaml")["token_list"],
        "lm": "seq_rnn", "lm_conf": {"unit": 6, "nlayers": 1},
    }  # fmt: skip
    LM.mkdir()
    (LM / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(1)
    model, _ = task.build_model_from_file(LM / "config.yaml")
    torch.save(model.state_dict(), LM / "7epoch.pth")
    shutil.copy(LM / "7epoch.pth", LM / "valid.loss.ave.pth")


Change = Callable[[bytes], bytes] | bytes | None
"""Of a member: from what it was, to what it is, or left out."""


def changed_zip(source: Path, target: Path, changes: Mapping[str, Change]) -> None:
    """Write `source` to `target` with members changed, or added at the end."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in [*old.namelist(), *(n for n in changes if n not in old.namelist())]:
            change = changes.get(name, lambda content: content)
            if change is not None:
                new.writestr(name, change(old.read(name)) if callable(change) else change)


def changed_yaml(**changes: object) -> Callable[[bytes], bytes]:
    """A change of a YAML member: keys set to these values."""
    return lambda content: yaml.safe_dump(yaml.safe_load(content) | changes).encode()


def tar_with(source: Path, target: Path, member: tarfile.TarInfo) -> None:
    """Write the archive `source` to `target` with one more member, of no content."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for info in old:
            new.addfile(info, old.extractfile(info) if info.isfile() else None)
        new.addfile(member)
