"""Does it pay to prepare a model for truncation? Low-Rank Prehab (arXiv 2512.01980), on trial.

    cd egs2/librispeech/asr_shrink      (after ./run.sh --corpus mini --stop_stage 11)
    python ../../../benchmarks/prehab.py --json prehab_mini.json

Before it is factorised the uncompressed model is trained for an epoch with the loss
+ lambda ||W L||_F^2 / sigma_max(W L)^2 for every site, L L^T the second moment of its inputs;
lambda rises from 1e-4 to 10 in ten steps. "same updates" is that epoch without the penalty, "plain"
has instead one more epoch of retraining, so that all have seen the data as often. Ranks are those
of the energy order over the whitened spectra, Adam's rate is --rate. WER is of greedy decoding on
test, the mean of CTC and attention, as factorised and after retraining; nothing is chosen by it.
An hour on 2 cores; what is trained already is only read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from about import write_result
from rank_search_tables import mean_interval
from retrained import retrained
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.core.checkpoints import read_checkpoint, write_checkpoint
from espnet_shrink.data.features import FeatureSet, extract, sampling_rate_hz
from espnet_shrink.data.kaldi import read_audio
from espnet_shrink.methods.lowrank.analysis import analyse, observe
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.proxy import make_proxy
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.space import full_space

PENALTIES = np.geomspace(1e-4, 10, 10)
SYSTEMS = ("plain", "same updates", "prehab")
BATCH, CLIP, IGNORED = 8, 5.0, -1
RIDGE = 1e-7  # so that every moment has a root
LEARNING_RATE_FACTOR = 0.5


def penalty(parameters: dict[str, Any], roots: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum of ||W L||_F^2 / sigma_max^2 over sites; `roots` has L (in, in) of each."""
    total = torch.zeros(())
    for name, root in roots.items():
        product = parameters[name].flatten(1) @ root
        largest = torch.linalg.matrix_norm(product.detach(), ord=2)
        total = total + (product**2).sum() / largest**2
    return total


def batch(data: FeatureSet, chosen: list[int], rate_hz: int) -> dict[str, torch.Tensor]:
    """What ESPnet's forward takes, longest first, as its encoder packs them."""
    chosen = sorted(chosen, key=lambda i: -data.seconds[i])
    speech = [torch.from_numpy(read_audio(data.utterances[i], rate_hz)) for i in chosen]
    text = [torch.tensor(list(data.tokens[i])) for i in chosen]
    return {
        "speech": pad_sequence(speech, batch_first=True),
        "speech_lengths": torch.tensor([len(each) for each in speech]),
        "text": pad_sequence(text, batch_first=True, padding_value=IGNORED),
        "text_lengths": torch.tensor([len(each) for each in text]),
    }


def prepared(
    base: LoadedModel, train: FeatureSet, proxy: FeatureSet, rate: float, penalised: bool, seed: int
) -> LoadedModel:
    """`base` after an epoch, with or without the penalty."""
    found = survey(base.model)
    roots = {
        name: torch.linalg.cholesky(
            moment + 1e-5 * moment.trace() / len(moment) * torch.eye(len(moment))
        )
        for name, moment in observe(base, found, proxy, of_outputs=False).moments.items()
    }
    changed = base.copy()
    parameters = dict(changed.model.named_parameters())
    optimiser = torch.optim.Adam(changed.model.parameters(), lr=rate)
    torch.manual_seed(seed)
    order = np.random.default_rng(seed).permutation(len(train.utterances))
    batches = np.array_split(order, len(order) // BATCH)
    changed.model.train()
    for number, chosen in enumerate(tqdm(batches, "prehab" if penalised else "same updates")):
        loss = changed.model(**batch(train, chosen.tolist(), sampling_rate_hz(base)))[0]
        if penalised:
            weight = PENALTIES[number * len(PENALTIES) // len(batches)]
            loss = loss + weight * penalty(parameters, roots)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(changed.model.parameters(), CLIP)
        optimiser.step()
    changed.model.eval()
    return changed


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", type=Path, default=Path("exp/asr_mini_train_asr_rnn"))
    parser.add_argument("--corpus", default="mini", help="of dump/raw/{train,dev,test}_CORPUS")
    parser.add_argument("--compressions", type=float, nargs="+", default=[5.0, 10.0])
    parser.add_argument("--rate", type=float, default=1e-4, help="Adam's, before it is factorised")
    parser.add_argument("--epochs", type=int, default=4, help="in all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    base, raw, work = open_baseline(args.exp), Path("dump/raw"), Path(f"{args.exp}_prehab")
    train, test = (extract(base, raw / f"{part}_{args.corpus}") for part in ("train", "test"))
    rows = []
    for seed in args.seeds:
        folder = work / f"proxy{seed}"
        make_proxy(base, raw / f"dev_{args.corpus}", folder, 100, "ordered", seed)
        proxy = extract(base, folder)
        for system in SYSTEMS:
            start = base
            kept = work / f"seed{seed}_{system.replace(' ', '_')}.pth"
            if system != "plain":
                if not kept.exists():
                    found = prepared(base, train, proxy, args.rate, system == "prehab", seed)
                    write_checkpoint(kept, found.model.state_dict())
                start = base.copy()
                start.model.load_state_dict(read_checkpoint(kept))
            dense = Scorer(start, test).score().wer
            analysis = analyse(start, proxy, "whitened")
            space = full_space(analysis.survey.sites, 4)
            for compression in args.compressions:
                problem = Problem(
                    analysis.cost_model, space, int(base.params / compression), analysis.energies
                )
                small = start.copy()
                analysis.compressor.put(small.model, energy_order(problem))
                exp = work / f"seed{seed}_{compression:g}x_{system.replace(' ', '_')}"
                epochs = args.epochs - (system != "plain")
                after = retrained(base, small, exp, epochs, LEARNING_RATE_FACTOR)
                rows.append({
                    "system": system, "compression": compression, "seed": seed,
                    "epochs": args.epochs, "wer_test_dense": dense,
                    "wer_test_factorised": Scorer(small, test).score().wer,
                    "wer_test": Scorer(after, test).score().wer,
                })  # fmt: skip
                print(rows[-1])
    write_result(args.json, corpus=args.corpus, rate=args.rate, rows=rows)
    print("|system|compression|as factorised|retrained|\n|---|---:|---:|---:|")
    for system in SYSTEMS:
        for compression in args.compressions:
            own = [r for r in rows if (r["system"], r["compression"]) == (system, compression)]
            cells = ["{:.2f} ± {:.2f}".format(*mean_interval([r[key] for r in own]))
                     for key in ("wer_test_factorised", "wer_test")]  # fmt: skip
            print(f"|{system}|{compression:g}x|{cells[0]}|{cells[1]}|")


if __name__ == "__main__":
    main()
