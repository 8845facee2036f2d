"""Predicted times against measured ones: of matrices by rows and rank, and of whole models by plan.

    python benchmarks/predicted_rtf.py [--json FILE]

A matrix, or an LSTM with both of its matrices, is predicted from the table of times that a search
with `--rtf` uses, for numbers of rows that the table does not hold, and run. Models with random
weights decode noise of several lengths as if a given text came out of it, on one thread; the
same with plans of random ranks, factorised. All that is compared takes turns; times are those of
the processor, the least of all turns, and so are the table's, which is measured anew. Exit status 1
if the prediction of a whole model is more than a quarter away from what was measured.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from about import write_result
from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel, load_model
from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.compat.text import Prompt
from espnet_shrink.data.features import FeatureSet
from espnet_shrink.layers import LowRankLinear, LowRankLSTM
from espnet_shrink.methods.lowrank.analysis import analyse, decode_alone, latency
from espnet_shrink.methods.lowrank.build import factorise
from espnet_shrink.methods.lowrank.decompositions import factors_of
from espnet_shrink.methods.lowrank.latency import LatencyTable
from espnet_shrink.methods.lowrank.site import Rank, Site
from espnet_shrink.methods.lowrank.timing import least_seconds, one_thread
from espnet_shrink.plan import DENSE, Plan, dense_plan

ROWS = (1, 30, 90, 1000, 3000)
LINEARS = ((256, 256), (1024, 256))
LSTMS = (64, 192)
RANK_SHARES = (0.25, 0.75)  # of the largest useful rank
TURNS = 5
FRAMES = (60, 150, 310)
FRAMES_PER_S, FRAMES_PER_TOKEN, DIMS, TOKENS = 100, 12, 80, 60
MOST = 0.25

CONFORMER = {
    "encoder": "conformer",
    "encoder_conf": {"output_size": 128, "linear_units": 512, "num_blocks": 3, "cnn_module_kernel":
                     7, "macaron_style": True, "use_cnn_module": True, "rel_pos_type": "latest",
                     "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn"},
    "decoder": "transformer", "decoder_conf": {"linear_units": 512, "num_blocks": 2},
}  # fmt: skip
RNN = {
    "encoder": "rnn",
    "encoder_conf": {"num_layers": 2, "hidden_size": 128, "output_size": 128, "subsample": [2, 2]},
    "decoder": "rnn", "decoder_conf": {"hidden_size": 128},
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "rnn": RNN,
    "conformer": CONFORMER,
}


def linear(site: Site, rows: int, rank: Rank) -> Callable[[], object]:
    """A linear layer, dense or factored, over `rows` rows."""
    out, width = site.shape
    x = torch.randn(1, rows, width)
    module = torch.nn.Linear(width, out) if rank == DENSE else LowRankLinear(width, out, int(rank))
    return lambda: module(x)


def lstm(hidden: int, rows: int, rank: Rank) -> Callable[[], object]:
    """An LSTM layer with both matrices dense, or both factored."""
    x = torch.randn(rows, 1, hidden)
    if rank == DENSE:
        module: torch.nn.Module = torch.nn.LSTM(hidden, hidden)
    else:
        ranks = dict.fromkeys(("weight_ih_l0", "weight_hh_l0"), int(rank))
        module = LowRankLSTM(hidden, hidden, ranks=ranks)
    return lambda: module(x)


def of_matrices() -> list[dict[str, Any]]:
    """A row for every matrix, number of rows and rank."""
    table, rows = LatencyTable(), []
    layers = [
        (f"linear {out}x{width}", [Site("w", (out, width), "linear")]) for out, width in LINEARS
    ]
    for h in LSTMS:
        pair = [Site(kind, (4 * h, h), f"lstm_{kind}") for kind in ("input", "recurrent")]
        layers.append((f"lstm {h}", pair))
    for name, sites in tqdm(layers, "matrices", unit="layer"):
        top = sites[0].largest_useful_rank
        ranks: list[Rank] = [DENSE, *(max(1, int(top * share)) for share in RANK_SHARES)]
        for met in ROWS:
            with one_thread():
                calls = [lstm(sites[0].shape[1], met, r) if len(sites) == 2 else
                         linear(sites[0], met, r) for r in ranks]  # fmt: skip
                found = least_seconds(calls)
            for rank, measured in zip(ranks, found, strict=True):
                predicted = sum(table.curve(site, {met: 1.0}).seconds(rank) for site in sites)
                rows.append({
                    "what": name, "rows": met, "rank": rank, "predicted_ms": 1e3 * predicted,
                    "measured_ms": 1e3 * measured, "ratio": predicted / measured,
                })  # fmt: skip
    return rows


def model(changes: dict[str, Any], exp: Path) -> LoadedModel:
    """A recogniser of features, with random weights."""
    builder = TASKS["asr"].builder()
    exp.mkdir(parents=True)
    tokens = ["<blank>", "<unk>", *map(str, range(TOKENS - 3)), "<sos/eos>"]
    given = {
        "token_type": "word", "token_list": tokens, "input_size": DIMS, "frontend": None,
        "normalize": None, "output_dir": str(exp), "model_conf": {"ctc_weight": 0.3}, **changes,
    }  # fmt: skip
    (exp / "given.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    args = builder.get_parser().parse_args(["--config", str(exp / "given.yaml")])
    (exp / "config.yaml").write_text(yaml.safe_dump(vars(args)), encoding="utf-8")
    torch.manual_seed(0)
    torch.save(builder.build_model(args).state_dict(), exp / "valid.acc.ave.pth")
    return load_model(exp / "config.yaml", exp / "valid.acc.ave.pth")


def noise() -> FeatureSet:
    """Features of several lengths, with a text for each."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(frames, DIMS, generator=generator) for frames in FRAMES]
    said = [[2 + i % (TOKENS - 3) for i in range(n // FRAMES_PER_TOKEN)] for n in FRAMES]
    seconds = [frames / FRAMES_PER_S for frames in FRAMES]
    start = Prompt([TOKENS - 1])  # <sos/eos>
    return FeatureSet([], features, said, seconds, prompts=[start] * len(FRAMES))


def plans(sites: list[Site]) -> list[Plan]:
    """The uncompressed plan, and random ones: at about an eighth and at about half of the size."""
    generator, found = np.random.default_rng(0), [dense_plan(sites)]
    for low, high in ((0.05, 0.2), (0.3, 0.9)):
        found.append(Plan({s.name: max(1, int(s.largest_useful_rank * generator.uniform(low, high)))
                           for s in sites}))  # fmt: skip
    return found


def of_models(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """A row for every model and plan."""
    rows, data = [], noise()
    for name in tqdm(names, "models", unit="model"):
        loaded = model(MODELS[name], folder / name)
        analysis = analyse(loaded, data, "plain")
        found = latency(loaded, analysis.cost_model, data)
        chosen, built = plans(list(analysis.survey.sites)), []
        for plan in chosen:
            built.append(loaded.copy())
            factorise(built[-1].model, plan, factors_of(plan, analysis.decompositions))
        with one_thread():
            seconds = least_seconds([lambda m=m: decode_alone(m, data) for m in built], TURNS)  # type: ignore[misc]
        for plan, taken in zip(chosen, seconds, strict=True):
            measured, predicted = taken / data.audio_s, found.rtf(plan)
            share = sum(s.params_at(plan.ranks[s.name]) for s in analysis.survey.sites) / sum(
                s.params for s in analysis.survey.sites
            )
            rows.append({"what": name, "size_of_sites": share, "rest_rtf": found.rest_rtf,
                         "predicted_rtf": predicted, "measured_rtf": measured,
                         "ratio": predicted / measured})  # fmt: skip
    return rows


def main() -> int:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), help=", ".join(MODELS))
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # ESPnet warns of tracing at every call
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # measured anew
        models, matrices = of_models(Path(folder), args.models), of_matrices()
    for rows in filter(None, (matrices, models)):
        print("|" + "|".join(rows[0]) + "|")
        print("|---|" + "---:|" * (len(rows[0]) - 1))
        for row in rows:
            cells = (f"{v:.4g}" if isinstance(v, float) else f"{v}" for v in row.values())
            print("|" + "|".join(cells) + "|")
        ratios = [row["ratio"] for row in rows]
        print(f"predicted / measured: {min(ratios):.2f} to {max(ratios):.2f}\n")
    write_result(args.json, matrices=matrices, models=models)
    return int(any(not 1 - MOST <= row["ratio"] <= 1 / (1 - MOST) for row in models))


if __name__ == "__main__":
    sys.exit(main())
