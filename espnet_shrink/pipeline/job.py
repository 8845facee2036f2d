"""A request to compress a model, and the job that is made of it once it has been looked at.

What can be refused of a request is refused here, before anything long begins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.compat.named_files import check_named_files
from espnet_shrink.core.out_folder import check_out
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.objectives.pseudo_labels import pseudo_labelled
from espnet_shrink.pipeline.opening import open_model
from espnet_shrink.pipeline.rounds import BASE
from espnet_shrink.pipeline.run_record import checked_record, keys_of
from espnet_shrink.pipeline.search import check_search, check_speed
from espnet_shrink.pipeline.space import find_space
from espnet_shrink.pipeline.subject import Subject
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace
from espnet_shrink.sources import Source, open_source
from espnet_shrink.sources.archive import SUFFIXES
from espnet_shrink.training.extras.distil import teacher_extra, without_labels
from espnet_shrink.training.retraining import Retraining, espnet2_retraining
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
class Size:
    """The rounds to one target: their folder, and their settings."""

    folder: Path
    settings: RoundsSettings


@dataclass(frozen=True)
class Job:
    """What is to be done; its model is open, and fits its data, settings and folders.

    Attributes:
        name: of the archives.
        sizes: of every target, from the mildest.
        retraining: None: nothing is retrained.
    """

    name: str
    source: Source
    subject: Subject
    space: SearchSpace
    sizes: Mapping[float, Size]
    retraining: Retraining | None
    out: Path
    ngpu: int
    command: str

    @property
    def base(self) -> Path:
        """The folder of the uncompressed model's hypotheses."""
        return self.out / BASE


def accept(request: Request, settings: RoundsSettings, search: SearchSettings) -> Job:
    """Open a request's model, and hold all of the request against it.

    With recordings without texts, writes the model's texts of them: the rest depends on them.

    Raises:
        ShrinkError: bad model, data, target or settings, or `out` holds something else.
    """
    source, loaded = _open(request)
    dev, space = Heard(loaded, request.data), find_space(loaded, request.out, search)
    subject = Subject(dev, request.out / "proxy", search)
    train = request.train
    if request.unlabelled is not None:
        settings = dataclasses.replace(
            settings, distil=without_labels(settings.distil, loaded.model)
        )
        _check_teaching(subject, space, settings, request.targets)
        train = pseudo_labelled(dev, request.unlabelled, request.out / "unlabelled")
    retraining = None
    if request.retrain:
        retraining = espnet2_retraining(
            loaded, train, request.data, request.out, settings, request.ngpu
        )
    sizes = {
        target: Size(request.folder(target), dataclasses.replace(settings, target=target))
        for target in sorted(request.targets)
    }
    subject = dataclasses.replace(subject, train_keys=keys_of(retraining))
    for size in sizes.values():
        checked_record(subject, size.folder, size.settings, space, retraining)
    if any(not (size.folder / "rounds.yaml").exists() for size in sizes.values()):
        subject.train_keys()
        check_speed(subject, space)
    return Job(
        _name(request.model, source), source, subject, space, sizes, retraining,
        request.out, request.ngpu, request.command,
    )  # fmt: skip


def _open(request: Request) -> tuple[Source, LoadedModel]:
    """The model, wherever it is; nothing is written beside OUT/base."""
    check_out(request.out, request.retrain)
    source = open_source(request.model, request.out / BASE, request.checkpoint)
    loaded = open_model(source.config, source.checkpoint)
    check_named_files(loaded.described, loaded.config)
    return source, loaded.asking(request.lang_sym, request.task_sym)


def _check_teaching(
    subject: Subject, space: SearchSpace, settings: RoundsSettings, targets: Sequence[float]
) -> None:
    """Refuse what can be, before the model writes texts for long."""
    settings.start_rate(subject.loaded.config)
    teacher_extra(settings.distil, subject.loaded)
    for target in targets:
        check_search(subject, space, int(subject.loaded.params / target))


def _name(model: str, source: Source) -> str:
    """A packed model's or a tag's own name; that of its folder for a model used where it is."""
    path = Path(model)
    if not path.exists():
        return path.name
    packed = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    return path.name[: -len(packed)] if packed else source.config.absolute().parent.name
