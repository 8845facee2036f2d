"""Memory and time of surveying, analysing and searching a large Conformer, 105 M parameters.

    python benchmarks/large_model.py --work large_model [--json FILE]

12 encoder and 6 decoder blocks of 512 with random weights, and noise for speech: nothing is learnt
of errors, but every step is that of `espnet-shrink search`. Memory is the peak of the process (as
Linux counts it) over what it had before it loaded the model. Five minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from about import write_result

from espnet_shrink.compat.hooks import start_faster
from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.compat.tasks import TASKS
from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import Utterance, write_folder
from espnet_shrink.methods.lowrank.analysis import analyse
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.searchers.energy_order import energy_order
from espnet_shrink.search.space import full_space

BLOCK = {"output_size": 512, "attention_heads": 8, "linear_units": 2048}
MODEL = {
    "encoder": "conformer",
    "encoder_conf": {
        **BLOCK, "num_blocks": 12, "input_layer": "conv2d", "macaron_style": True,
        "use_cnn_module": True, "cnn_module_kernel": 31, "rel_pos_type": "latest",
        "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn",
    },
    "decoder": "transformer",
    "decoder_conf": {"attention_heads": 8, "linear_units": 2048, "num_blocks": 6},
    "frontend_conf": {"n_fft": 512, "win_length": 400, "hop_length": 160},
    "normalize": "utterance_mvn",
    "model_conf": {"ctc_weight": 0.3},
    "token_type": "char",
}  # fmt: skip
TOKENS = 1000
UTTERANCES, SECONDS, RATE_HZ = 8, 5.0, 16000
COMPRESSIONS = (1.5, 2.0, 3.0, 4.0)
MIB = 2**20


def make(work: Path) -> None:
    """An ESPnet experiment of the model, and a data folder of noise."""
    given = {
        **MODEL, "output_dir": str(work / "exp"),
        "token_list": ["<blank>", "<unk>", *(f"t{i}" for i in range(TOKENS - 3)), "<sos/eos>"],
    }  # fmt: skip
    builder = TASKS["asr"].builder()
    (work / "exp").mkdir(parents=True)
    (work / "data").mkdir()
    (work / "given.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    args = builder.get_parser().parse_args(["--config", str(work / "given.yaml")])
    torch.manual_seed(0)
    model = builder.build_model(copy.deepcopy(args))
    torch.save(model.state_dict(), work / "exp" / "valid.acc.ave.pth")
    generator = np.random.default_rng(0)
    noise, text = [], " ".join(f"t{i}" for i in range(15))
    for number in range(UTTERANCES):
        audio = work / "data" / f"u{number}.wav"
        soundfile.write(audio, 0.1 * generator.standard_normal(int(SECONDS * RATE_HZ)), RATE_HZ)
        noise.append(Utterance(f"u{number}", str(audio), text, "s"))
    write_folder(work / "data", noise)
    config = yaml.safe_dump(copy.deepcopy(vars(args)))
    (work / "exp" / "config.yaml").write_text(config, encoding="utf-8")


class Meter:
    """Seconds and peak memory of one step after the other."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.before_mib = self._status_mib("VmRSS")
        self._begin()

    def step(self, name: str) -> None:
        """A step ends here, and the next begins."""
        peak = self._status_mib("VmHWM") - self.before_mib
        self.rows.append(
            {"step": name, "seconds": time.perf_counter() - self._began, "peak_mib": peak}
        )
        print(f"{name}: {self.rows[-1]['seconds']:.1f} s, peak {peak:.0f} MiB", flush=True)
        self._begin()

    def _begin(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._began = time.perf_counter()

    @staticmethod
    def _status_mib(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        (found,) = [line for line in lines if line.startswith(f"{key}:")]
        return int(found.split()[1]) / 1024


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the model and noise")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start_faster()
    if not (args.work / "exp" / "config.yaml").exists():
        making = multiprocessing.get_context("spawn").Process(target=make, args=(args.work,))
        making.start()
        making.join()
    TASKS["asr"].builder()  # its imports are not the model's
    meter = Meter()
    loaded = load_model(*find_model(args.work / "exp"))
    meter.step("loaded")
    data = extract(loaded, args.work / "data")
    analysis = analyse(loaded, data, "whitened")
    meter.step("surveyed, watched")
    compressor = analysis.compressor
    meter.step("decomposed")
    space, sites = full_space(analysis.survey.sites, 4), analysis.survey.sites
    plans = [
        energy_order(Problem(analysis.cost_model, space, int(loaded.params / c), analysis.energies))
        for c in COMPRESSIONS
    ]
    meter.step("planned")
    scorer = Scorer(loaded, data, compressor)
    for plan in plans:
        scorer.score(plan)
    meter.step(f"scored {len(plans)} plans on {data.audio_s:.0f} s")
    size_mib = loaded.params * 4 / MIB
    peak_mib = max(row["peak_mib"] for row in meter.rows)
    print(f"{len(sites)} sites, {loaded.params / 1e6:.1f} M parameters: the model and "
          f"{(peak_mib - size_mib) / 1024:.2f} GiB")  # fmt: skip
    write_result(
        args.json, sites=len(sites), params=loaded.params, model_mib=size_mib, peak_mib=peak_mib,
        rows=meter.rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
