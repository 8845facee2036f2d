"""ESPnet's own trainer: its configs, its commands, what it leaves."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_shrink.compat.hooks import ADAPTER_KEYS
from espnet_shrink.compat.tasks import Task
from espnet_shrink.errors import ShrinkError

# Of the machine, the mode or the reporters of the first training, or only for its start.
LAUNCH = {
    "version", "config", "required", "distributed", "local_rank", "pretrain_path", "print_config",
    "collect_stats", "write_collected_feats", "dry_run", "log_level", "init", "save_strategy",
    "sharded_ddp", "use_deepspeed", "deepspeed_config", "ddp_comm_hook", "use_wandb",
    "create_graph_in_tensorboard", *ADAPTER_KEYS,
}  # fmt: skip


def training_config(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config for ESPnet's trainer that repeats the training of config.yaml `base`.

    Left out is what belongs to the first training alone: its machines, reporters and adapter.

    Args:
        changes: keys that are added or take the place of those in `base`.
    """
    kept = {
        key: value for key, value in base.items()
        if key not in LAUNCH and not key.startswith(("dist_", "wandb_"))
    }  # fmt: skip
    config = {**kept, **changes}
    ngpu = int(config.get("ngpu") or 0)
    for key, needs_gpus in (("multiprocessing_distributed", 2), ("use_amp", 1)):
        if config.get(key) and ngpu < needs_gpus:
            config[key] = False
    if importlib.util.find_spec("tensorboard") is None:
        config["use_tensorboard"] = False
    if "train_data_path_and_name_and_type" in changes:
        config.setdefault("multiple_iterator", False)
        if "multiple_iterator" not in changes:  # the base's data were split into parts, these not
            config["multiple_iterator"] = False
    return config


def unknown_options(task: Task, config: Mapping[str, Any]) -> list[str]:
    """Keys of a training config that the installed ESPnet's trainer has no option for."""
    known = {action.dest for action in task.builder().get_parser()._actions}
    return sorted(key for key in config if key not in known)


def parse_training(task: Task, config: Mapping[str, Any]) -> argparse.Namespace:
    """The trainer's arguments, parsed by the task's own parser.

    Raises:
        ShrinkError: with the parser's complaint.
    """
    complaint = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(complaint):
        path = Path(folder) / "train.yaml"
        path.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
        try:
            args = task.builder().get_parser().parse_args(["--config", str(path)])
        except SystemExit as error:
            lines = complaint.getvalue().strip().splitlines()
            raise ShrinkError(
                f"ESPnet's trainer: {lines[-1] if lines else 'it refuses'}"
            ) from error
    args.distributed = False
    return args  # type: ignore[no-any-return]


def try_training(task: Task, args: argparse.Namespace, model: torch.nn.Module) -> None:
    """Do all that ESPnet's trainer does before its first step, but build the model.

    Optimiser, scheduler, data sets, batches, and the first batch of each, loaded and collated.

    Raises:
        ShrinkError: what fails, by the name of its step, with ESPnet's own words.
    """
    builder = task.builder()
    from espnet2.tasks.abs_task import scheduler_classes
    from espnet2.train.distributed_utils import DistributedOption

    args = argparse.Namespace(**{**vars(args), "ngpu": 0, "num_workers": 0})
    step = "optimiser"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            # By its options alone: the real one holds the moments of all parameters.
            (optimiser,) = builder.build_optimizers(args, model=model)
            if args.scheduler is not None:
                step = "scheduler"
                scheduler_classes[args.scheduler.lower()](optimiser, **args.scheduler_conf)
            for mode in ("train", "valid"):
                step = f"{mode} data"
                several = mode == "train" and args.multiple_iterator
                build = (
                    builder.build_multiple_iter_factory if several else builder.build_iter_factory
                )
                batches = build(args=args, distributed_option=DistributedOption(), mode=mode)
                step = f"first batch of the {mode} data"
                next(iter(batches.build_iter(1)))
        except StopIteration as error:
            raise ShrinkError(f"retraining cannot start: there is no {step}") from error
        except (Exception, SystemExit) as error:  # ESPnet, torch, readers: each raises its own
            detail = " ".join(str(error).split())[:300]
            raise ShrinkError(
                f"retraining cannot start: its {step} fails with {type(error).__name__}: {detail}"
            ) from error


def train_command(task: Task, config: Path, extras: Path | None = None) -> list[str]:
    """The command that runs ESPnet's own trainer with the plugin on a config file.

    Args:
        extras: a YAML file of what rides along; None: nothing does.
    """
    riding = [] if extras is None else ["--extras", str(extras)]
    return [sys.executable, "-m", "espnet_shrink.run", "--debug", *riding,
            "-m", task.train_module, "--config", str(config)]  # fmt: skip


def planned_epochs(config: Mapping[str, Any]) -> int:
    """Epochs that a config.yaml asks for; ESPnet3 has them in the section of its trainer."""
    trainer = config.get("trainer")
    return int(trainer["max_epochs"] if isinstance(trainer, dict) else config["max_epoch"])


def trained_epochs(exp: Path) -> int:
    """Epochs that the trainer has finished in `exp`; 0 if it left no Nepoch.pth."""
    # checkpoint.pth knows it too, but holds pickled objects. The last epoch's model is never
    # deleted, however few are kept.
    names = [re.fullmatch(r"(\d+)epoch\.pth", path.name) for path in exp.glob("*epoch.pth")]
    return max((int(name.group(1)) for name in names if name), default=0)
