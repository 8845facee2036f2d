"""A tiny random model of each of ESPnet's architectures, from the YAML files of this folder."""

import copy
import sys
from pathlib import Path

import torch
import yaml

from espnet_shrink.compat.models import LoadedModel, load_model
from espnet_shrink.compat.tasks import TASKS

HERE = Path(__file__).parent
STAND_INS = HERE.parent / "stand_ins"
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))


def make(name: str, exp: Path, seed: int = 0, changes: dict | None = None) -> LoadedModel:
    """Build NAME.yaml with random weights through its task, and write it to `exp` as training does.

    Args:
        name: of a file here; its key `task` names ESPnet's task, the rest is a training config.
        exp: the experiment folder, made anew.
        changes: of the settings; those that are mappings are changed in part.
    """
    settings = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    for key, value in (changes or {}).items():
        part = isinstance(value, dict)
        settings[key] = {**settings.get(key, {}), **value} if part else value
    task = TASKS[settings.pop("task")]
    provide_packages()
    builder = task.builder()
    exp.mkdir(parents=True)
    (exp / "train.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    args = builder.get_parser().parse_args(
        ["--config", str(exp / "train.yaml"), "--output_dir", str(exp)]
    )
    (exp / "config.yaml").write_text(yaml.safe_dump(copy.deepcopy(vars(args))), encoding="utf-8")
    torch.manual_seed(seed)
    model = builder.build_model(args)
    with torch.no_grad():
        for parameter in model.parameters():  # fresh ones have zeros in places
            parameter.add_(0.2 * torch.randn(parameter.shape))
        if getattr(model, "joint_network", None) is not None:
            # A random transducer says blank only; ESPnet's search takes long if it never does.
            model.joint_network.lin_out.weight.mul_(8.0 if task.name == "asr_transducer" else 4.0)
    torch.save(model.state_dict(), exp / "valid.acc.ave.pth")
    return load_model(exp / "config.yaml", exp / "valid.acc.ave.pth")


def provide_packages() -> None:
    """What ESPnet takes from outside of PyPI: warprnnt's loss."""
    if str(STAND_INS) not in sys.path:
        sys.path.append(str(STAND_INS))  # after the real one, if there is one
