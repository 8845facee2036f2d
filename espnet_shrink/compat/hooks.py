"""What is put into ESPnet: adapter, key checks, whole checkpoints, Whisper, 8 bits, a faster start.

Facts used here:
- `create_adapter_fn_table` maps `adapter:` of a config to a function that changes a freshly
  built model; training and inference both call it before any checkpoint is read.
- `AbsTask.build_model_from_file` loads checkpoints with strict=False, so keys that do not fit
  are dropped without a word. ESPnet 202511 unpickles whatever they hold.
- `AbsTask.main_worker` builds the model to train by `cls.build_model(args=args)`; no other
  program builds one there.
- `Trainer.run` writes checkpoint.pth, then Nepoch.pth, each straight to its final name.
- `quantize_asr_model` calls torch's `quantize_dynamic`, which knows modules by their exact type.
- Functions are decorated with `typeguard.typechecked`, taken from typeguard at import.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wrapt
import yaml

from espnet_shrink.compat.renames import factored_name, translate
from espnet_shrink.compat.whisper.package import fit
from espnet_shrink.core.files import write_atomically
from espnet_shrink.errors import ShrinkError

if TYPE_CHECKING:
    import torch

# The package to install: ESPnet alone says "Adapter espnet_shrink is not supported".
ADAPTER = "espnet_shrink"
ADAPTER_KEYS = ("use_adapter", "adapter", "adapter_conf")  # of a config.yaml
_registered = False


def adapter_config(conf: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a compressed model's config.yaml, with `conf` as its adapter_conf."""
    return dict(zip(ADAPTER_KEYS, (True, ADAPTER, conf), strict=True))


def register(create: Callable[..., None]) -> None:
    """Teach ESPnet `adapter: espnet_shrink` and key checks, now or as soon as it is imported.

    Args:
        create: changes a freshly built model; given the keys of adapter_conf by name.
    """
    global _registered
    if _registered:
        return
    _registered = True

    def add_adapter(module: Any) -> None:
        module.create_adapter_fn_table[ADAPTER] = create

    wrapt.register_post_import_hook(add_adapter, "espnet2.layers.create_adapter")
    wrapt.register_post_import_hook(_check_loading, "espnet2.tasks.abs_task")
    wrapt.register_post_import_hook(fit, "whisper")
    for name in ("torch.ao.quantization", "torch.quantization"):
        wrapt.register_post_import_hook(_quantise_lstms, name)


def start_faster() -> None:
    """Let ESPnet start in less than half the time, in this process; call it before its import.

    typeguard rewrites and compiles the functions of ESPnet and of its dependencies anew at every
    import (8 of 13 s of CPU time), and checks every call. Arguments are no longer checked. A config
    with a vocabulary of 50,000 takes 3.4 s to read in Python, and is read several times; in C 0.4.
    """
    if hasattr(yaml, "CSafeLoader"):
        yaml.safe_load = functools.partial(yaml.load, Loader=yaml.CSafeLoader)

    def unchecked(function: Any = None, **settings: Any) -> Any:
        return unchecked if function is None else function

    def replace(typeguard: Any) -> None:
        typeguard.typechecked = unchecked

    wrapt.register_post_import_hook(replace, "typeguard")


def _quantise_lstms(module: Any) -> None:
    """Whoever quantises torch's LSTMs, as `--quantize_modules LSTM` does, quantises ours too."""
    original = module.quantize_dynamic

    def quantise(
        model: Any,
        qconfig_spec: Any = None,
        dtype: Any = None,
        mapping: Any = None,
        inplace: bool = False,
    ) -> Any:
        import torch
        from torch.ao.quantization import get_default_dynamic_quant_module_mappings

        from espnet_shrink.layers.int8 import Int8LowRankLSTM
        from espnet_shrink.layers.lstm import LowRankLSTM

        dtype = dtype or torch.qint8
        if isinstance(qconfig_spec, set) and torch.nn.LSTM in qconfig_spec and dtype == torch.qint8:
            qconfig_spec = qconfig_spec | {LowRankLSTM}
            mapping = {
                **(mapping or get_default_dynamic_quant_module_mappings()),
                LowRankLSTM: Int8LowRankLSTM,
            }
        return original(model, qconfig_spec, dtype, mapping, inplace)

    @functools.wraps(original)
    def quantize_dynamic(model: Any, *args: Any, **kwargs: Any) -> Any:
        ours = sys.modules.get("espnet_shrink.layers.lstm")  # not imported: nobody has any
        if ours is None or not any(isinstance(m, ours.LowRankLSTM) for m in model.modules()):
            return original(model, *args, **kwargs)
        return quantise(model, *args, **kwargs)

    module.quantize_dynamic = quantize_dynamic


def _check_loading(module: Any) -> None:
    original = module.AbsTask.build_model_from_file.__func__

    @functools.wraps(original)
    def build_model_from_file(cls: Any, *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(cls, *args, **kwargs).arguments
        config_file, model_file = given.get("config_file"), given.get("model_file")
        loads: list[tuple[list[str], list[str]]] = []
        handles = []

        class Watched(cls):  # type: ignore[misc]
            """The task, with an eye on what `load_state_dict` finds."""

            @classmethod
            def build_model(cls, args: Any) -> Any:
                from espnet_shrink.core.checkpoints import read_checkpoint  # imports torch

                if model_file is not None and _is_ours(args):
                    read_checkpoint(model_file)  # refuses pickled objects before ESPnet reads
                model = super().build_model(args)
                handles.append(model.register_load_state_dict_post_hook(note))
                return model

        def note(_: Any, found: Any) -> None:
            loads.append((list(found.missing_keys), list(found.unexpected_keys)))

        model, args_of_model = original(Watched, *args, **kwargs)
        for handle in handles:
            handle.remove()
        if loads:  # the last one: ESPnet tries twice with some old checkpoints
            missing, unexpected = loads[-1]
            # ESPnet leaves some keys out on purpose (frozen upstreams); ours never miss one.
            if _is_ours(args_of_model) or {factored_name(key) for key in unexpected} & {*missing}:
                _refuse_keys(missing, unexpected, config_file, model_file)
        return model, args_of_model

    module.AbsTask.build_model_from_file = classmethod(build_model_from_file)


def _is_ours(args: Any) -> bool:
    return bool(getattr(args, "use_adapter", False)) and getattr(args, "adapter", None) == ADAPTER


def check_keys(model: torch.nn.Module, keys: set[str], config: Any, checkpoint: Any) -> None:
    """Raise ShrinkError if a checkpoint with `keys` is not all of `model`."""
    wanted = set(model.state_dict())
    keys = set(translate(keys, wanted).values())
    _refuse_keys(sorted(wanted - keys), sorted(keys - wanted), config, checkpoint)


def _refuse_keys(missing: list[str], unexpected: list[str], config: Any, checkpoint: Any) -> None:
    if missing or unexpected:
        raise ShrinkError(
            f"checkpoint {checkpoint} does not fit config {config}: "
            f"missing keys: {_few(sorted(missing))}; unexpected keys: {_few(sorted(unexpected))}; "
            "use the config.yaml that was written with this checkpoint"
        )


def _few(names: list[str], most: int = 6) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "none"


def wrap_trained_models(wrap: Callable[[Any], None]) -> None:
    """Hand every model that ESPnet's trainer builds to `wrap`, in this process.

    As it is built: without its adapter and its weights. Models that are loaded are left alone.
    """

    def watch(module: Any) -> None:
        original = module.AbsTask.main_worker.__func__

        @functools.wraps(original)
        def main_worker(cls: Any, args: Any) -> Any:
            class Wrapped(cls):  # type: ignore[misc]
                """The task, whose models are wrapped."""

                @classmethod
                def build_model(cls, args: Any) -> Any:
                    model = super().build_model(args)
                    wrap(model)
                    return model

            return original(Wrapped, args)

        module.AbsTask.main_worker = classmethod(main_worker)

    wrapt.register_post_import_hook(watch, "espnet2.tasks.abs_task")


def search_in_batches() -> None:
    """Let ESPnet's beam searches of this process search all hypotheses of a step at once.

    A search is changed when it first searches: programs run as __main__, where no hook sees what
    they define.
    """

    def replace(module: Any) -> None:
        original = module.BeamSearch.forward

        @functools.wraps(original)
        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            from espnet_shrink.compat.beam.use import change  # numba: only to decode

            if type(self) is module.BeamSearch and not hasattr(self, "_left_alone"):
                self._left_alone = not change(self)
            return original(self, *args, **kwargs)

        module.BeamSearch.forward = forward

    for name in ("espnet.nets.beam_search", "espnet2.legacy.nets.beam_search"):
        wrapt.register_post_import_hook(replace, name)


def save_checkpoints_whole() -> None:
    """Make torch.save write beside and rename, so that a killed training can always resume.

    Beside each checkpoint.pth the model of its epoch is written first: ESPnet writes it later,
    and a kill in between would leave an epoch without a model.
    """
    import torch

    original = torch.save

    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(f, (str, os.PathLike)):
            original(obj, f, *args, **kwargs)
            return
        path = Path(f)
        if path.name == "checkpoint.pth" and isinstance(obj, dict) and "reporter" in obj:
            save(obj["model"], path.with_name(f"{obj['reporter']['epoch']}epoch.pth"))
        # Through a Python file, as torch's own writer hides that the disk is full.
        with write_atomically(path) as beside, beside.open("wb") as handle:
            original(obj, handle, *args, **kwargs)

    torch.save = save
