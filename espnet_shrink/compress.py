"""One model, one data folder, one command: proxy set, rounds, scores, report and archive.

OUT/base/          the model: its hypotheses, and all of it if it was an archive or a tag
OUT/proxy/         the proxy set, chosen from DATA
OUT/roundN/        ESPnet experiment folders
OUT/results.json, RESULTS.md, report.html, wer.png, ranks.png
OUT/NAME.zip       the final model, packed
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.cost import CostModel
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.pack import Packed
from espnet_shrink.export.release import release
from espnet_shrink.files import write_text
from espnet_shrink.lowrank.sites import survey
from espnet_shrink.preflight.folder import check_named_files, check_out
from espnet_shrink.preflight.retraining import check_retraining
from espnet_shrink.proxy.decode_set import best_decoder, decode_set
from espnet_shrink.proxy.features import extract
from espnet_shrink.proxy.kaldi import read_folder
from espnet_shrink.report.collect import Sources, collect
from espnet_shrink.report.results import Results
from espnet_shrink.report.write import write_report
from espnet_shrink.rounds import Outcome, RoundsSettings, run_rounds
from espnet_shrink.search.problem import Problem
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import full_space
from espnet_shrink.sources import Source, open_source
from espnet_shrink.sources.archive import SUFFIXES
from espnet_shrink.stages import make_proxy, open_model
from espnet_shrink.training import retrain

PROXY_SIZE = 100


@dataclass(frozen=True)
class Request:
    """What to compress, and how far.

    Attributes:
        model: MODEL of the command line.
        data: dev set, a Kaldi-style folder: everything is chosen on it.
        out: folder to write to.
        train: training set to retrain on; None: what the model's config names.
        retrain: whether to retrain at all.
        command: for the record.
    """

    model: str
    data: Path
    out: Path
    train: Path | None
    retrain: bool
    command: str
    checkpoint: str | None = None
    ngpu: int = 0


@dataclass(frozen=True)
class Compressed:
    """What came out."""

    outcome: Outcome
    results: Results
    summary: str
    packed: Packed


def compress(request: Request, settings: RoundsSettings, search: SearchSettings) -> Compressed:
    """Compress a model and pack what comes out; resume where it was cut off.

    Raises:
        ShrinkError: bad model, data or target; no round kept dev WER within its limit.
    """
    out, trainer = request.out, retrain if request.retrain else None
    check_out(out, request.retrain)
    source = open_source(request.model, out / "base", request.checkpoint)
    loaded = open_model(source.config, source.checkpoint)
    check_named_files(source.config)
    settings = _checked(request, settings, search, loaded)
    size = min(PROXY_SIZE, len(read_folder(request.data)))
    proxy = make_proxy(loaded, request.data, out / "proxy", size, "ordered", search.seed)
    tqdm.write(f"proxy set: {proxy.size} utterances of {request.data}")
    outcome = run_rounds(
        loaded, proxy.folder, request.data, out, settings, search, request.ngpu, retrain=trainer
    )
    if outcome.final is None:
        raise ShrinkError(
            f"no round kept dev WER within its limit (see {out}/round*/round.yaml): lower "
            "--target, or retrain for longer (epochs in a rounds preset)"
        )
    results = _score(request, loaded, outcome)
    summary = write_report(results, out)
    final = out / results.final.exp
    small = dataclasses.replace(
        source, config=final / "config.yaml", checkpoint=find_model(final)[1]
    )
    name = f"{_name(request.model, source)}_{results.final.compression:.1f}x.zip"
    return Compressed(outcome, results, summary, release(small, results, source, out, out / name))


def _checked(
    request: Request, settings: RoundsSettings, search: SearchSettings, loaded: LoadedModel
) -> RoundsSettings:
    """The settings with the data to train on, once all is known to work."""
    numels = {name: parameter.numel() for name, parameter in loaded.model.named_parameters()}
    sites = survey(loaded.model).sites
    # Refuses a target that cannot be met.
    Problem(
        CostModel(sites, numels, {}), full_space(sites, search.min_rank),
        int(sum(numels.values()) / settings.target), {},
    )  # fmt: skip
    if not request.retrain:
        return settings
    return check_retraining(
        loaded, request.train, request.data, request.out, settings, request.ngpu
    )


def _score(request: Request, loaded: LoadedModel, outcome: Outcome) -> Results:
    """Decode DATA greedily with every system, by the decoder that serves the base model best."""
    features = extract(loaded, request.data)
    decoder = best_decoder(loaded, features)
    tag = f"decode_greedy_{decoder}"
    exps: list[Path] = [request.out / f"round{r.round}" for r in outcome.rounds]
    exps = [exp for exp, r in zip(exps, outcome.rounds, strict=True) if r.status == "accepted"]
    control = request.out / "control"
    if (control / ".trained").exists():
        exps.append(control)
    hypotheses = Path(tag) / request.data.name
    base = request.out / "base"  # not in the user's folder
    if not (base / "config.yaml").exists():
        write_text(base / "config.yaml", loaded.config.read_text(encoding="utf-8"))
    decode_set(loaded, features, decoder, base / hypotheses)
    for exp in exps:
        small = load_model(*find_model(exp))
        decode_set(small, extract(small, request.data), decoder, exp / hypotheses)
    return collect(
        Sources(base, request.out, request.data.parent, [request.data.name], tag,
                f"{request.data.name} (dev data; greedy, {decoder})", [request.command])
    )  # fmt: skip


def _name(model: str, source: Source) -> str:
    """A packed model's or a tag's own name; that of its folder for a model used where it is."""
    path = Path(model)
    if not path.exists():
        return path.name
    packed = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    return path.name[: -len(packed)] if packed else source.config.absolute().parent.name
