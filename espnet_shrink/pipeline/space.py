"""The search space of a run: of its file, or all that the method allows, within the settings."""

from __future__ import annotations

from pathlib import Path

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.methods.registry import method_of
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace, full_space


def make_space(loaded: LoadedModel, out: Path, settings: SearchSettings) -> SearchSpace:
    """Write `out`/space.yaml, or read it if it is there (it may have been edited).

    Raises:
        ShrinkError: an edited space that does not fit the model, or settings that do not.
    """
    path = out / "space.yaml"
    if not path.exists():
        found = method_of(settings.method).survey(loaded.model)
        space_for(loaded, None, settings).save(path, found.sites)
    return space_for(loaded, path, settings)


def space_for(loaded: LoadedModel, path: Path | None, settings: SearchSettings) -> SearchSpace:
    """The search space of a model: that of a file, or all amounts, within what `settings` allow.

    Raises:
        ShrinkError: no such file, or a space or a pattern that does not fit the model.
    """
    found = method_of(settings.method).survey(loaded.model)
    space = full_space(found.sites, settings.min_rank) if path is None else SearchSpace.load(path)
    space.check(found.sites)
    matrices = [u.name for u in found.uncompressed if len(u.shape) > 1]
    return space.constrained(found.sites, settings, matrices)


def find_space(loaded: LoadedModel, out: Path, settings: SearchSettings) -> SearchSpace:
    """The space of `out`/space.yaml where there is one, else all ranks; as `space_for`."""
    path = out / "space.yaml"
    return space_for(loaded, path if path.exists() else None, settings)
