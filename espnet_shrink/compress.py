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
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.pack import Packed
from espnet_shrink.export.release import release
from espnet_shrink.files import write_text
from espnet_shrink.proxy.decode_set import best_decoder, decode_set
from espnet_shrink.proxy.features import extract
from espnet_shrink.proxy.kaldi import read_folder
from espnet_shrink.report.collect import Sources, collect
from espnet_shrink.report.results import Results
from espnet_shrink.report.write import write_report
from espnet_shrink.rounds import Outcome, RoundsSettings, run_rounds
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.sources import Source, open_source
from espnet_shrink.sources.archive import SUFFIXES
from espnet_shrink.stages import make_proxy, open_model
from espnet_shrink.training import Retrain, retrain
from espnet_shrink.training_data import training_data

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
    lang_sym: str | None = None
    task_sym: str | None = None


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
        ShrinkError: bad model, data or target; no round kept its errors on dev within the limit.
    """
    out = request.out
    source = open_source(request.model, out / "base", request.checkpoint)
    loaded = open_model(source.config, source.checkpoint)
    loaded = loaded.asking(request.lang_sym, request.task_sym)
    settings, trainer = _how_to_train(request, settings, loaded)
    size = min(PROXY_SIZE, len(read_folder(request.data)))
    proxy = make_proxy(loaded, request.data, out / "proxy", size, "ordered", search.seed)
    tqdm.write(f"proxy set: {proxy.size} utterances of {request.data}")
    outcome = run_rounds(
        loaded, proxy.folder, request.data, out, settings, search, request.ngpu, retrain=trainer
    )
    if outcome.final is None:
        raise ShrinkError(
            f"no round kept dev {outcome.metric.upper()} within its limit "
            f"(see {out}/round*/round.yaml): lower --target, or retrain for longer (epochs in a "
            "rounds preset)"
        )
    results = _score(request, loaded, outcome)
    summary = write_report(results, out)
    final = out / results.final.exp
    small = dataclasses.replace(
        source, config=final / "config.yaml", checkpoint=find_model(final)[1]
    )
    name = f"{_name(request.model, source)}_{results.final.compression:.1f}x.zip"
    return Compressed(outcome, results, summary, release(small, results, source, out, out / name))


def _how_to_train(
    request: Request, settings: RoundsSettings, loaded: LoadedModel
) -> tuple[RoundsSettings, Retrain | None]:
    if not request.retrain:
        return settings, None
    train = training_data(
        loaded, request.train, request.data, request.out / "train_data", settings.train
    )
    return dataclasses.replace(settings, train=train), retrain


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
        small = load_model(*find_model(exp)).asking(**loaded.asked)
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
