"""The ESPnet3 system: ASR's stages, and those that compress the trained model."""

from __future__ import annotations

import contextlib
import functools
import logging
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import OmegaConf

from espnet_shrink.compat.espnet3 import ASRSystem, StageSpec
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.digest import config_digest
from espnet_shrink.data.features import sampling_rate_hz
from espnet_shrink.data.moment_data import training_recordings
from espnet_shrink.errors import ShrinkError
from espnet_shrink.espnet3.dataset import write_dev_set
from espnet_shrink.espnet3.decode import decode
from espnet_shrink.espnet3.retrain import CONFIG, retrain, retraining_config
from espnet_shrink.espnet3.settings import ShrinkSettings, read_section
from espnet_shrink.layers import use_padded_lstm
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.proxy import make_proxy
from espnet_shrink.pipeline.rounds import run_rounds
from espnet_shrink.pipeline.search import read_plan, search_ranks
from espnet_shrink.pipeline.space import find_space
from espnet_shrink.report.collect import Sources, collect
from espnet_shrink.report.write import write_report
from espnet_shrink.training.extras.distil import teacher_extra
from espnet_shrink.training.retraining import Retraining

logger = logging.getLogger(__name__)

LOGS = "shrink.out_dir"


class ShrinkSystem(ASRSystem):
    """ESPnet3's ASR system with stages that compress the model of the training config.

    They read the `shrink` section of the training config, as in
    egs3/mini_an4/asr_shrink/conf/shrink.yaml, and call what the command line of the same names
    calls. Every stage resumes, and does nothing when its result is there.
    """

    stages: ClassVar[tuple[StageSpec, ...]] = (
        *ASRSystem.stages,
        StageSpec(name="proxy", config="training", log_dir=LOGS),
        StageSpec(name="search", config="training", log_dir=LOGS),
        StageSpec(name="shrink", config="training", log_dir=LOGS),
        StageSpec(name="shrink_report", config=("training", "inference"), log_dir=LOGS),
    )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, with LSTMs on a CPU as fast as torch can."""
        use_padded_lstm()
        return super().train(*args, **kwargs)

    def proxy(self, *args: Any, **kwargs: Any) -> None:
        """Write the dev set as a data folder, and choose the utterances plans are scored on."""
        self._reject_stage_args("proxy", args, kwargs)
        with _stage():
            settings, loaded = self._settings(), open_baseline(self.exp_dir)
            config, dev = self.training_config, settings.out_dir / "dev"
            write_dev_set(config.dataset, config.recipe_dir, dev, sampling_rate_hz(loaded))
            made = make_proxy(
                loaded, dev, settings.out_dir / "proxy", settings.proxy.size,
                settings.proxy.method, settings.proxy.seed,
            )  # fmt: skip
            logger.info(
                "proxy set %s: %d utterances; the uncompressed model has %s on it",
                made.folder, made.size, made.score,
            )  # fmt: skip

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Search a rank for every site, for the first round's compression."""
        self._reject_stage_args("search", args, kwargs)
        with _stage():
            settings, loaded = self._settings(), open_baseline(self.exp_dir)
            search, out = settings.search, settings.out_dir / "search"
            full = sum(p.numel() for p in loaded.model.parameters())
            # What the rounds would stumble over is to be known before the search.
            rate = settings.rounds.start_rate(loaded.config)
            teacher_extra(settings.rounds.distil, loaded)
            retraining_config(
                self._plain_config(), out.parent / "round1", 1, rate.value, settings.rounds.train
            )
            found = search_ranks(
                loaded, settings.out_dir / "proxy", settings.out_dir / "dev",
                find_space(loaded, settings.out_dir, search), search,
                int(full / settings.rounds.first_goal()), out,
                recordings=training_recordings(loaded, {}, settings.proxy.size, search),
            )  # fmt: skip
            logger.info(
                "plan %s: %.2fx (%d parameters), dev %s without retraining, "
                "by %s among %d plans",
                out / "plan.yaml", full / found.params, found.params, found.dev_score,
                found.searcher, found.evaluations,
            )  # fmt: skip

    def shrink(self, *args: Any, **kwargs: Any) -> None:
        """Factorise, retrain with ESPnet3's trainer and search again, to the target."""
        self._reject_stage_args("shrink", args, kwargs)
        with _stage():
            settings, loaded = self._settings(), open_baseline(self.exp_dir)
            out = settings.out_dir
            outcome = run_rounds(
                loaded, out / "proxy", out / "dev", out, settings.rounds, settings.search,
                first_plan=read_plan(out / "search" / "plan.yaml"),
                retrain=functools.partial(retrain, self._plain_config()),
                retraining=self._retraining(settings),
            )  # fmt: skip
            if outcome.final is None:
                raise ShrinkError(
                    f"no round kept dev {outcome.metric.upper()} within its limit "
                    f"(see {out}/round*/round.yaml): "
                    "lower shrink.rounds.target, or raise shrink.rounds.epochs"
                )
            logger.info(
                "target %gx %s: %.2fx, %d of %d parameters; to decode it: --stages infer measure "
                "--training_config %s",
                settings.rounds.target, "reached" if outcome.reached_target else "NOT reached",
                outcome.final.compression, outcome.final.params, outcome.baseline.params,
                out / f"round{outcome.final.round}" / CONFIG,
            )  # fmt: skip

    def shrink_report(self, *args: Any, **kwargs: Any) -> None:
        """Decode the test sets of the inference config with every model, and report."""
        self._reject_stage_args("shrink_report", args, kwargs)
        with _stage():
            out, recipe = self._settings().out_dir, Path(self.training_config.recipe_dir).resolve()
            tag = f"{Path(self.inference_config.inference_dir).name}_report"
            accepted = [r.parent for r in out.glob("round*/round.yaml")
                        if read_yaml(r)["status"] == "accepted"]  # fmt: skip
            control = [out / "control"] if (out / "control" / ".trained").exists() else []
            for exp in [Path(self.exp_dir), *control, *sorted(accepted)]:
                names = decode(self.inference_config, exp, tag, out / "references")
            results = collect(
                Sources(Path(self.exp_dir), out, out / "references", names, tag,
                        recipe.parent.name, ["python " + shlex.join(sys.argv)])
            )  # fmt: skip
            print(write_report(results, out))

    def _plain_config(self) -> dict[str, Any]:
        return dict(OmegaConf.to_container(self.training_config, resolve=True))  # type: ignore[arg-type]

    def _retraining(self, settings: ShrinkSettings) -> Retraining:
        """Known by the dataset's config: the data are what classes of the recipe make of it.

        Not by all of the config, to which ESPnet3's stages add while they run.
        """
        content = config_digest({"dataset": self._plain_config().get("dataset")})
        return Retraining("espnet3", content, lambda: settings.rounds.train)

    def _settings(self) -> ShrinkSettings:
        return read_section(self._plain_config())


@contextlib.contextmanager
def _stage() -> Iterator[None]:
    """End the program at an error the user can mend; ESPnet3 would print where it was raised."""
    root = logging.getLogger()
    root.addFilter(_is_worth_reading)
    try:
        yield
    except ShrinkError as error:
        logger.error("%s", error)
        raise SystemExit(2) from error
    finally:
        root.removeFilter(_is_worth_reading)


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """espnet2 warns through the root logger, at every decoding step, of what only tracing needs."""
    return record.levelno >= logging.ERROR
