"""What a teacher costs: one update of a recogniser with it, over one without it, in turns.

The model has the shape of the demo's (BLSTM encoder with CTC, attention decoder), random weights
and random audio; the student is the same, dense or factorised to a fifth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_shrink.compat.models import LoadedModel, load_model
from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.plan import Plan
from espnet_shrink.training.extras.distil import Distil
from espnet_shrink.training.extras.teacher import Teacher

LOSSES = {
    "token_kl": Distil(token_kl=1.0),
    "ctc_kl": Distil(ctc_kl=1.0),
    "encoder_mse": Distil(encoder_mse=1.0),
    "all": Distil(token_kl=1.0, ctc_kl=1.0, encoder_mse=1.0),
}
TOKENS = ["<blank>", "<unk>", *(f"t{i}" for i in range(57)), "<sos/eos>"]


def model(folder: Path, hidden: int) -> LoadedModel:
    """A recogniser with random weights, in an experiment folder."""
    settings = {
        "token_type": "word", "token_list": TOKENS, "output_dir": str(folder),
        "normalize": "utterance_mvn", "encoder": "rnn", "decoder": "rnn",
        "encoder_conf": {"num_layers": 3, "hidden_size": hidden, "output_size": hidden,
                         "subsample": [2, 2, 1], "dropout": 0.1},
        "decoder_conf": {"num_layers": 1, "hidden_size": hidden,
                         "att_conf": {"atype": "location", "adim": hidden}},
        "model_conf": {"ctc_weight": 0.5, "report_cer": False, "report_wer": False},
    }  # fmt: skip
    (folder / "given.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    builder = TASKS["asr"].builder()
    args = builder.get_parser().parse_args(["--config", str(folder / "given.yaml")])
    (folder / "config.yaml").write_text(yaml.safe_dump(vars(args)), encoding="utf-8")
    torch.manual_seed(0)
    torch.save(builder.build_model(args).state_dict(), folder / "valid.acc.ave.pth")
    return load_model(folder / "config.yaml", folder / "valid.acc.ave.pth")


def factorised(base: LoadedModel) -> Any:
    """The model with a tenth of the full rank at every site: about a fifth of it."""
    small = base.copy().model
    sites = survey(small).sites
    plan = Plan({site.name: max(1, site.full_rank // 10) for site in sites})
    found = decompose_sites(dict(small.named_parameters()), sites, None)
    factorise(small, plan, factors_of(plan, found))
    return small


def update(student: Any, optimiser: torch.optim.Optimizer, given: dict[str, Any]) -> float:
    """Seconds of one update."""
    began = time.perf_counter()
    optimiser.zero_grad()
    student(**given)[0].sum().backward()
    optimiser.step()
    return time.perf_counter() - began


def main() -> None:
    """Print a line of JSON for every loss and student."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--turns", type=int, default=7)
    given_args = parser.parse_args()
    lengths, words = torch.linspace(64000, 32000, 8).long(), 20
    given = {"speech": torch.randn(8, 64000), "speech_lengths": lengths,
             "text": torch.randint(2, 58, (8, words)),
             "text_lengths": torch.full((8,), words)}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        base = model(Path(folder), given_args.hidden)
        for kind in ("dense", "factorised"):
            students = {}
            for name, distil in [("plain", None), *LOSSES.items()]:
                student = (base.copy().model if kind == "dense" else factorised(base)).train()
                if distil is not None:
                    Teacher(base.config, base.checkpoint, distil).wrap(student)
                students[name] = (student, torch.optim.Adam(student.parameters(), 1e-4))
            turns: dict[str, list[float]] = {name: [] for name in students}
            for _ in range(given_args.turns + 1):
                for name, pair in students.items():
                    turns[name].append(update(*pair, given))
            seconds = {name: times[1:] for name, times in turns.items()}
            for name in LOSSES:
                pairs = zip(seconds[name], seconds["plain"], strict=True)
                print(json.dumps({
                    "student": kind, "losses": name,
                    "plain_s": round(statistics.median(seconds["plain"]), 3),
                    "times_plain": round(statistics.median(a / b for a, b in pairs), 2),
                }))  # fmt: skip


if __name__ == "__main__":
    main()
