"""One model, one data folder, one command: proxy set, rounds, scores, report and archive.

OUT/base/          the model: its hypotheses, and all of it if it was an archive or a tag
OUT/proxy/         the proxy set, chosen from DATA
OUT/roundN/        ESPnet experiment folders; of several targets OUT/5x/roundN/
OUT/results.json, RESULTS.md, report.html, wer.png, ranks.png
OUT/NAME_5.1x.zip  the final model of a target, packed
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from espnet_shrink.compat.models import LoadedModel, find_model, load_model
from espnet_shrink.compat.named_files import check_named_files
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.core.files import write_text
from espnet_shrink.core.out_folder import check_out
from espnet_shrink.data import PROXY_SIZE
from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.data.metric import Metric
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.pack import Packed
from espnet_shrink.export.release import release
from espnet_shrink.objectives.decode_set import decode_set, greedy_tag, kept_texts
from espnet_shrink.objectives.pseudo_labels import pseudo_labelled
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_model
from espnet_shrink.pipeline.proxy import choose_proxy
from espnet_shrink.pipeline.rounds import BASE, Outcome, run_rounds_of
from espnet_shrink.pipeline.run_record import checked_record, keys_of
from espnet_shrink.pipeline.search import check_search, check_speed
from espnet_shrink.pipeline.space import find_space
from espnet_shrink.pipeline.subject import Subject
from espnet_shrink.report.collect import Sources, collect
from espnet_shrink.report.results import Results
from espnet_shrink.report.wer import score
from espnet_shrink.report.write import write_report
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.sources import Source, open_source
from espnet_shrink.sources.archive import SUFFIXES
from espnet_shrink.training.espnet2 import retrain
from espnet_shrink.training.extras.distil import teacher_extra, without_labels
from espnet_shrink.training.retraining import espnet2_retraining
from espnet_shrink.training.rounds_settings import RoundsSettings


@dataclass(frozen=True)
class Request:
    """What to compress, and how far.

    Attributes:
        model: MODEL of the command line.
        targets: compressions, a model for each.
        data: dev set, a Kaldi-style folder: everything is chosen on it.
        out: folder to write to.
        train: training set to retrain on; None: what the model's config names.
        unlabelled: recordings without texts to retrain on instead.
        retrain: whether to retrain at all.
        command: for the record.
    """

    model: str
    targets: Sequence[float]
    data: Path
    out: Path
    train: Path | None
    unlabelled: Path | None
    retrain: bool
    command: str
    checkpoint: str | None = None
    ngpu: int = 0
    lang_sym: str | None = None
    task_sym: str | None = None

    def folder(self, target: float) -> Path:
        """Of the rounds to a target: OUT itself if there is but one."""
        return self.out / f"{target:g}x" if len(self.targets) > 1 else self.out


@dataclass(frozen=True)
class Compressed:
    """What came out.

    Attributes:
        outcomes: of every size.
        packed: an archive of every size that has a model.
    """

    outcomes: Mapping[float, Outcome]
    results: Results
    summary: str
    packed: Sequence[Packed]


def compress(request: Request, settings: RoundsSettings, search: SearchSettings) -> Compressed:
    """Compress a model to every target and pack what comes out; resume where it was cut off.

    Every size is what it would be alone: the proxy set, the errors of the model, its
    activations and its decompositions are shared.

    Raises:
        ShrinkError: bad model, data or target; no round kept its errors on dev within the limit.
    """
    source, loaded = _open(request)
    space, train = find_space(loaded, request.out, search), request.train
    if request.unlabelled is not None:
        settings = dataclasses.replace(
            settings, distil=without_labels(settings.distil, loaded.model)
        )
        _check_teacher(request, loaded, space, settings, search)
        train = pseudo_labelled(
            loaded, request.unlabelled, request.data, request.out / "unlabelled"
        )
    sizes = {
        target: dataclasses.replace(settings, target=target) for target in sorted(request.targets)
    }
    retraining = None
    if request.retrain:
        retraining = espnet2_retraining(
            loaded, train, request.data, request.out, settings, request.ngpu
        )
    for target, size in sizes.items():
        folder = request.folder(target)
        checked_record(loaded, request.data, folder, size, search, space, retraining)
    unfinished = any(not (request.folder(t) / "rounds.yaml").exists() for t in sizes)
    if unfinished:  # what can be refused is, before the proxy set is chosen
        if retraining is not None:
            retraining.keys()
        check_speed(loaded, request.data, space, search)
    count = min(PROXY_SIZE, len(read_table(request.data / "wav.scp")))
    subject = Subject(loaded, request.out / "proxy", request.data, search, keys_of(retraining))
    proxy = choose_proxy(subject, count, "ordered", search.seed)
    tqdm.write(f"proxy set: {proxy.size} utterances of {request.data}")
    outcomes = {}
    for target, size in sizes.items():
        if len(sizes) > 1:
            tqdm.write(f"size {target:g}x, in {request.folder(target)}")
        outcomes[target] = run_rounds_of(
            subject, request.folder(target), size, request.ngpu, None,
            retrain if request.retrain else None, None, space, retraining, request.out / BASE,
        )  # fmt: skip
    metric = next(outcome.metric for outcome in outcomes.values())
    if all(outcome.final is None for outcome in outcomes.values()):
        raise ShrinkError(
            f"no round kept dev {metric.upper()} within its limit "
            f"(see {request.folder(min(sizes))}/round*/round.yaml): lower --target, or retrain "
            "for longer (epochs in a rounds preset)"
        )
    results = _score(request, loaded, metric)
    summary = write_report(results, request.out)
    return Compressed(outcomes, results, summary, _pack(request, source, results))


def _check_teacher(
    request: Request,
    loaded: LoadedModel,
    space: SearchSpace,
    settings: RoundsSettings,
    search: SearchSettings,
) -> None:
    """Refuse what can be, before the model writes texts for long."""
    settings.start_rate(loaded.config)
    teacher_extra(settings.distil, loaded)
    for target in request.targets:
        check_search(loaded, space, search, int(loaded.params / target))


def _pack(request: Request, source: Source, results: Results) -> list[Packed]:
    """An archive of every size's final model."""
    packed, name = [], _name(request.model, source)
    for size in results.sizes:
        if size.final is None:
            continue
        exp = request.out / size.final.exp
        small = dataclasses.replace(
            source, config=exp / "config.yaml", checkpoint=find_model(exp)[1]
        )
        archive = request.out / f"{name}_{size.final.compression:.1f}x.zip"
        packed.append(release(small, results, source, request.out, archive))
    return packed


def _open(request: Request) -> tuple[Source, LoadedModel]:
    """The model, wherever it is; nothing is written beside OUT/base."""
    check_out(request.out, request.retrain)
    source = open_source(request.model, request.out / BASE, request.checkpoint)
    loaded = open_model(source.config, source.checkpoint)
    check_named_files(loaded.described, loaded.config)
    return source, loaded.asking(request.lang_sym, request.task_sym)


def _score(request: Request, loaded: LoadedModel, metric: Metric) -> Results:
    """Scores of all systems on DATA, by the decoder that serves the base model best.

    The rounds have decoded it with all of them but the controls.
    """
    base, name = request.out / BASE, request.data.name
    if not (base / "config.yaml").exists():  # the report reads it there, not in the user's folder
        write_text(base / "config.yaml", loaded.config.read_text(encoding="utf-8"))
    folders = [request.folder(target) for target in request.targets]
    for exp in (base, *(folder / "control" for folder in folders)):
        if kept_texts(exp, name) or not (exp == base or (exp / ".trained").exists()):
            continue
        model = loaded if exp == base else load_model(*find_model(exp)).asking(**loaded.asked)
        decode_set(Scorer(model, extract(model, request.data))).keep(exp, name)
    decoder = _best_decoder(request, loaded, metric)
    return collect(
        Sources(base, request.out, request.data.parent, [name], greedy_tag(decoder),
                f"{name} (dev data; greedy, {decoder})", [request.command], folders)
    )  # fmt: skip


def _best_decoder(request: Request, loaded: LoadedModel, metric: Metric) -> str:
    """That with the fewest errors of the base model; by texts alone, as the audio may be gone."""
    texts = scored_texts(loaded.described, loaded.config)
    references = read_table(request.data / "text")
    rates = {}
    for decoder, path in kept_texts(request.out / BASE, request.data.name).items():
        found = score(references, read_table(path), texts, metric)
        rates[decoder] = found.cer if metric == "cer" else found.wer
    return min(rates, key=lambda decoder: rates[decoder])


def _name(model: str, source: Source) -> str:
    """A packed model's or a tag's own name; that of its folder for a model used where it is."""
    path = Path(model)
    if not path.exists():
        return path.name
    packed = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    return path.name[: -len(packed)] if packed else source.config.absolute().parent.name
