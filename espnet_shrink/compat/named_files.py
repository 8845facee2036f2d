"""The files that a model's config.yaml names and that decoding reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.errors import ShrinkError


def named_files(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, name) of the files that a model's config names and that decoding reads."""
    conf = config.get("normalize_conf")
    values = {
        # Of other types of tokens it is the name of a model elsewhere.
        "bpemodel": config.get("bpemodel") if config.get("token_type") == "bpe" else None,
        "src_bpemodel": config.get("src_bpemodel")
        if config.get("src_token_type") == "bpe"
        else None,
        "stats_file": conf.get("stats_file") if isinstance(conf, dict) else None,
        "non_linguistic_symbols": config.get("non_linguistic_symbols"),
    }
    yield from ((key, value) for key, value in values.items() if isinstance(value, str))


def check_named_files(described: Mapping[str, Any], config: Path) -> None:
    """Refuse a model whose config names a file for decoding or packing that is not there.

    ESPnet only warns of some, and packing comes last.

    Raises:
        ShrinkError: with the key and the file.
    """
    for key, name in named_files(described):
        if name != "none" and not Path(name).is_file():
            raise ShrinkError(
                f"{config} names {name} ({key}), which is not here: put it back (paths in a config "
                "are relative to the recipe folder: run from there), or take it out of the config"
            )
