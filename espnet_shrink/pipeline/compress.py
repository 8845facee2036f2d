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

from tqdm import tqdm

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.core.files import write_text
from espnet_shrink.data import PROXY_SIZE
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.data.metric import Metric
from espnet_shrink.errors import ShrinkError
from espnet_shrink.export.pack import Packed
from espnet_shrink.export.release import release
from espnet_shrink.objectives.decode_set import greedy_tag, kept_texts
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.pipeline.job import Job, Request, accept
from espnet_shrink.pipeline.proxy import choose_proxy
from espnet_shrink.pipeline.rounds import Outcome, run_rounds_of
from espnet_shrink.report.collect import Sources, collect
from espnet_shrink.report.results import Results
from espnet_shrink.report.wer import score
from espnet_shrink.report.write import write_report
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.training.espnet2 import retrain
from espnet_shrink.training.rounds_settings import RoundsSettings


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
    job = accept(request, settings, search)
    outcomes = _run(job)
    results = _score(job, next(outcome.metric for outcome in outcomes.values()))
    return Compressed(outcomes, results, write_report(results, job.out), _pack(job, results))


def _run(job: Job) -> dict[float, Outcome]:
    """The proxy set, then the rounds to every target."""
    subject, data = job.subject, job.subject.dev.folder
    count = min(PROXY_SIZE, len(read_table(data / "wav.scp")))
    proxy = choose_proxy(subject, count, "ordered", subject.search.seed)
    tqdm.write(f"proxy set: {proxy.size} utterances of {data}")
    outcomes = {}
    for target, size in job.sizes.items():
        if len(job.sizes) > 1:
            tqdm.write(f"size {target:g}x, in {size.folder}")
        outcomes[target] = run_rounds_of(
            subject, size.folder, size.settings, job.ngpu, None,
            None if job.retraining is None else retrain, None, job.space, job.retraining, job.base,
        )  # fmt: skip
    if all(outcome.final is None for outcome in outcomes.values()):
        mildest = next(iter(job.sizes))
        raise ShrinkError(
            f"no round kept dev {outcomes[mildest].metric.upper()} within its limit "
            f"(see {job.sizes[mildest].folder}/round*/round.yaml): lower --target, or retrain "
            "for longer (epochs in a rounds preset)"
        )
    return outcomes


def _score(job: Job, metric: Metric) -> Results:
    """Scores of all systems on dev, by the decoder that serves the base model best.

    The rounds have decoded it with all of them but the controls.
    """
    dev = job.subject.dev
    data, name = dev.folder, dev.folder.name
    config = job.base / "config.yaml"
    if not config.exists():  # the report reads it there, not in the user's folder
        write_text(config, dev.loaded.config.read_text(encoding="utf-8"))
    folders = [size.folder for size in job.sizes.values()]
    for exp in (job.base, *(folder / "control" for folder in folders)):
        if kept_texts(exp, name) or not (exp == job.base or (exp / ".trained").exists()):
            continue
        heard = dev
        if exp != job.base:
            heard = Heard(load_model(*find_model(exp)).asking(**dev.loaded.asked), data)
        heard.decoded.keep(exp, name)
    decoder = _best_decoder(job, metric)
    return collect(
        Sources(job.base, job.out, data.parent, [name], greedy_tag(decoder),
                f"{name} (dev data; greedy, {decoder})", [job.command], folders)
    )  # fmt: skip


def _best_decoder(job: Job, metric: Metric) -> str:
    """That with the fewest errors of the base model; by texts alone, as the audio may be gone."""
    dev = job.subject.dev
    texts = scored_texts(dev.loaded.described, dev.loaded.config)
    references = read_table(dev.folder / "text")
    rates = {}
    for decoder, path in kept_texts(job.base, dev.folder.name).items():
        found = score(references, read_table(path), texts, metric)
        rates[decoder] = found.cer if metric == "cer" else found.wer
    return min(rates, key=lambda decoder: rates[decoder])


def _pack(job: Job, results: Results) -> list[Packed]:
    """An archive of every size's final model."""
    packed = []
    for size in results.sizes:
        if size.final is None:
            continue
        exp = job.out / size.final.exp
        small = dataclasses.replace(
            job.source, config=exp / "config.yaml", checkpoint=find_model(exp)[1]
        )
        archive = job.out / f"{job.name}_{size.final.compression:.1f}x.zip"
        packed.append(release(small, results, job.source, job.out, archive))
    return packed
