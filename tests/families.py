"""Tiny ESPnet models of other families than the trained one: random weights, real configs."""

import copy
from pathlib import Path

import torch
import yaml
from conftest import TOKENS, compress
from toy import random_plan

from espnet_shrink.compat.models import LoadedModel, load_model
from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.methods.lowrank.sites import survey

CONFORMER = {
    "encoder": "conformer",
    "encoder_conf": {
        "output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2,
        "input_layer": "conv2d", "macaron_style": True, "use_cnn_module": True,
        "cnn_module_kernel": 3, "rel_pos_type": "latest", "pos_enc_layer_type": "rel_pos",
        "selfattention_layer_type": "rel_selfattn",
    },
    "decoder": "transformer",
    "decoder_conf": {"attention_heads": 2, "linear_units": 24, "num_blocks": 2},
}  # fmt: skip
TRANSFORMER = {
    **CONFORMER,
    "encoder": "transformer",
    "encoder_conf": {
        "output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2,
        "input_layer": "linear",
    },
}  # fmt: skip


ASR = {
    "frontend_conf": {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 20},
    "normalize": "utterance_mvn", "model_conf": {"ctc_weight": 0.5},
}  # fmt: skip


def plain_model(exp: Path, changes: dict, seed: int = 0, task: str = "asr") -> LoadedModel:
    """A model with random weights in an experiment folder, as ESPnet's trainer writes one."""
    builder = TASKS[task].builder()
    exp.mkdir(parents=True)
    given = {
        **(ASR if task == "asr" else {}), "token_type": "char", "token_list": TOKENS,
        "output_dir": str(exp), **changes,
    }  # fmt: skip
    (exp / "given.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    args = builder.get_parser().parse_args(["--config", str(exp / "given.yaml")])
    (exp / "config.yaml").write_text(yaml.safe_dump(copy.deepcopy(vars(args))), encoding="utf-8")
    torch.manual_seed(seed)
    model = builder.build_model(args).eval()
    with torch.no_grad():  # biases and running statistics that tell when they are left out
        for value in model.state_dict().values():
            if value.dim() == 1 and value.dtype == torch.float32:
                value.add_(0.3 * torch.rand_like(value))
    torch.save(model.state_dict(), exp / "valid.acc.ave.pth")
    return load_model(exp / "config.yaml", exp / "valid.acc.ave.pth")


def compressed_model(exp: Path, changes: dict, seed: int = 0) -> LoadedModel:
    """The same, factorised by random ranks, in exp/small; the plain one is in exp/plain."""
    plain = plain_model(exp / "plain", changes, seed)
    plan = random_plan(survey(plain.model).sites, seed)
    return compress(plain, plan, exp / "small")
