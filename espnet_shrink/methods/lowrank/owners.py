"""Which modules own a parameter: what they share, they share again after a model is rebuilt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from espnet_shrink.methods.lowrank.kinds import IN_MODULES, IN_PARAMETERS, is_low_rank


def walk(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Path and module of every place in `model`, a shared module at each of its places.

    What is inside a low-rank module is left out.
    """
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules(remove_duplicate=False):
        if path.startswith(inside):
            continue
        if is_low_rank(module):
            inside += (join(path, ""),)
        yield path, module


def dense_names(module: torch.nn.Module) -> list[str]:
    """Names of a module's own parameters, as they are when it is dense."""
    if isinstance(module, IN_MODULES):
        return ["weight"] if module.bias is None else ["weight", "bias"]
    names = [name for name, _ in module.named_parameters("", False, remove_duplicate=False)]
    factored = list(module.ranks) if isinstance(module, IN_PARAMETERS) else []
    return factored + [name for name in names if not name.endswith(("_U", "_V")) or not factored]


def keepers(module: torch.nn.Module, name: str) -> list[tuple[torch.nn.Module, str]]:
    """Module and name of the parameter that is `name` when dense; two, U's and V's, if factored."""
    if isinstance(module, IN_MODULES):
        U, V = module.U, module.V
        return [(U, "weight"), (V, "weight")] if name == "weight" else [(U, name)]
    if isinstance(module, IN_PARAMETERS) and name in module.ranks:
        return [(module, f"{name}_U"), (module, f"{name}_V")]
    return [(module, name)]


def shared_names(model: torch.nn.Module) -> list[list[str]]:
    """Groups of names, as they are in the dense model, of one parameter each; in model order."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for path, module in walk(model):
        for name in dense_names(module):
            own = tuple(id(getattr(owner, key)) for owner, key in keepers(module, name))
            groups.setdefault(own, []).append(join(path, name))
    return [names for names in groups.values() if len(names) > 1]


def share(model: torch.nn.Module, groups: Sequence[Sequence[str]]) -> None:
    """Give all names of a group the parameter of the first: both factors if it is factored."""
    for names in groups:
        places = [keepers(*_locate(model, name)) for name in names]
        for first, *others in zip(*places, strict=True):
            for owner, key in others:
                setattr(owner, key, getattr(*first))


def join(path: str, name: str) -> str:
    """The dotted name of `name` in the module at `path`."""
    return f"{path}.{name}" if path else name


def _locate(model: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    path, _, own = name.rpartition(".")
    return model.get_submodule(path), own
