"""Settings: a dataclass per command, read from a commented YAML preset, checked key by key."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError

Settings = TypeVar("Settings")


def load_settings(
    cls: type[Settings], path: str | Path | None, overrides: Mapping[str, Any]
) -> Settings:
    """Settings from the defaults, then the preset at `path`, then `overrides` that are not None.

    Raises:
        ShrinkError: unknown key or wrong type, with the keys there are.
    """
    values = {} if path is None else read_yaml(path)
    given = {key: value for key, value in overrides.items() if value is not None}
    return settings_from(cls, {**values, **given}, str(path or "command line"))


def settings_from(cls: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """A settings dataclass from a mapping.

    Raises:
        ShrinkError: unknown key, wrong type, or what the class itself refuses.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    checked = {}
    for key, value in values.items():
        if key not in names:
            raise ShrinkError(f"{where}: unknown setting {key}: choose of {', '.join(names)}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            checked[key] = settings_from(typing.cast("type[Any]", hints[key]), value,
                                         f"{where}: {key}")  # fmt: skip
            continue
        try:
            checked[key] = msgspec.convert(value, hints[key])
        except msgspec.ValidationError as error:
            kind = getattr(hints[key], "__name__", str(hints[key]))
            within = f" ({error})" if "`$" in str(error) else ""  # a list's or a mapping's entry
            raise ShrinkError(f"{where}: {key} is {value!r}, but must be {kind}{within}") from error
    try:
        return cls(**checked)
    except ShrinkError as error:
        raise ShrinkError(f"{where}: {error}") from error


def require(condition: bool, message: str) -> None:
    """Raise a ShrinkError with `message` unless `condition` holds."""
    if not condition:
        raise ShrinkError(message)
