"""The `shrink` section of an ESPnet3 training config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.core.settings import settings_from
from espnet_shrink.errors import ShrinkError
from espnet_shrink.pipeline.rounds import RoundsSettings
from espnet_shrink.search.settings import SearchSettings

SECTION = "shrink"


@dataclass(frozen=True)
class ProxySettings:
    """Which utterances of the dev set plans are scored on."""

    size: int = 100
    method: str = "ordered"
    seed: int = 0


@dataclass(frozen=True)
class ShrinkSettings:
    """How to compress; the presets (`espnet-shrink settings`) explain every key."""

    out_dir: Path
    proxy: ProxySettings
    search: SearchSettings
    rounds: RoundsSettings


def read_section(training: Mapping[str, Any]) -> ShrinkSettings:
    """The settings in a training config, as plain data.

    Raises:
        ShrinkError: no section, an unknown key, or a wrong value.
    """
    section = training.get(SECTION)
    if not isinstance(section, dict) or not section.get("out_dir"):
        raise ShrinkError(
            f"the training config has no section `{SECTION}` with an `out_dir`: add one, "
            "as in egs3/mini_an4/asr_shrink/conf/shrink.yaml"
        )
    parts: dict[str, type] = {
        "proxy": ProxySettings, "search": SearchSettings, "rounds": RoundsSettings,
    }  # fmt: skip
    unknown = sorted(section.keys() - {"out_dir", *parts})
    if unknown:
        raise ShrinkError(
            f"{SECTION}: unknown setting {unknown[0]}: choose of out_dir, {', '.join(parts)}"
        )
    read: dict[str, Any] = {
        name: settings_from(cls, section.get(name) or {}, f"{SECTION}.{name}")
        for name, cls in parts.items()
    }
    return ShrinkSettings(Path(section["out_dir"]), **read)
