"""Packed models: what ESPnet's packer wrote, unpacked by ESPnet, and the model zoo's tags.

Facts used here:
- `unpack` replaces a string of a packed config that is the name of a member by its place in the
  folder given, so an absolute folder gives a config that is valid from any current directory.
- It trusts the archive: names, links and the entries of meta.yaml must be checked before it.
- `pack` resolves links and would name files by where they lie; its Archiver takes names.
- `ModelDownloader.download_and_unpack` unpacks into its cache whatever it has fetched, and some
  versions rewrite configs there; its parts fetch without opening anything.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_shrink.compat.models import espnet_version
from espnet_shrink.errors import ShrinkError

DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError,
    RuntimeError, NotImplementedError,
)  # fmt: skip
"""What reading a damaged, encrypted or unknown archive raises."""


def unpack_archive(archive: Path, folder: Path) -> None:
    """Unpack a checked archive into `folder`, an absolute path, with paths in configs rewritten.

    Raises:
        ShrinkError: a damaged archive, or a config that is no plain YAML.
    """
    from espnet2.main_funcs.pack_funcs import unpack

    try:
        unpack(archive, folder, use_cache=False)
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise ShrinkError(f"a config in it is not valid YAML: {detail}") from error
    except DAMAGED as error:
        detail = " ".join(str(error).split())
        raise ShrinkError(f"it cannot be unpacked ({detail}): copy it again") from error


def rewrite_paths(config: dict[str, Any], moves: Mapping[str, Path]) -> dict[str, Any]:
    """`config` with every string that is a key of `moves` replaced by the path it has there."""
    from espnet2.main_funcs.pack_funcs import find_path_and_change_it_recursive

    for before, now in moves.items():
        config = find_path_and_change_it_recursive(config, before, str(now))
    return config


def fetch(tag: str) -> Path:
    """A tag's packed archive, or its folder of a Hugging Face repository, in the zoo's own cache.

    Raises:
        ShrinkError: no such tag, no network, or no package espnet_model_zoo.
    """
    try:
        from espnet_model_zoo.downloader import ModelDownloader
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise ShrinkError(
            f"{tag} is no file or folder, and a model tag needs the package espnet_model_zoo "
            f"({error}): pip install espnet_model_zoo"
        ) from error
    try:
        zoo = ModelDownloader()
        url = zoo.get_url(name=tag)
        if "huggingface.co" in url:
            return Path(zoo.huggingface_download(name=tag))
        return Path(zoo.download(name=tag))
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403, 404):
            raise ShrinkError(
                f"no such file or folder, and no such model on Hugging Face (or a private one): "
                f"{tag}"
            ) from error
        raise _unreachable(tag, error) from error
    # Requests, huggingface_hub, pandas and the zoo each raise their own.
    except Exception as error:
        raise _unreachable(tag, error) from error


def _unreachable(tag: str, error: Exception) -> ShrinkError:
    detail = " ".join(str(error).split())[:200] or type(error).__name__
    return ShrinkError(
        f"{tag} is no file or folder, and could not be fetched as a model tag (is there a "
        f"network?): {detail}"
    )


def pack_folder(
    tree: Path, configs: Mapping[str, str], files: Mapping[str, str], archive: Path
) -> None:
    """Pack all of `tree` with ESPnet's packer; names in it are relative to `tree`.

    Args:
        configs: key of meta.yaml (asr_train_config) -> name of a config in `tree`.
        files: key of meta.yaml (asr_model_file) -> name of a checkpoint.
        archive: an absolute path.
    """
    from espnet2.main_funcs.pack_funcs import Archiver

    named = {*configs.values(), *files.values()}
    others = sorted(str(p.relative_to(tree)) for p in tree.rglob("*") if not p.is_dir())
    meta = {
        "files": dict(files), "yaml_files": dict(configs), "timestamp": time.time(),
        "python": sys.version, "torch": str(torch.__version__), "espnet": espnet_version(),
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), Archiver(archive, mode="w") as opened:
        content = yaml.safe_dump(meta).encode()
        opened.addfile(opened.generate_info("meta.yaml", len(content)), io.BytesIO(content))
        for name in [*named, *(name for name in others if name not in named)]:
            opened.add(tree / name, name)
