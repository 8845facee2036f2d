"""espnet-shrink VERB: one verb for each step from a trained model to a smaller one."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from espnet_shrink.compat import skip_type_checks
from espnet_shrink.errors import ShrinkError

DESCRIPTION = """\
Make a trained ESPnet recogniser smaller: choose a rank for every weight matrix by a search on a
few utterances, factorise, retrain, and go on until the target compression is reached.

In order:
  espnet-shrink proxy  --exp EXP --data dump/raw/dev --out OUT/proxy
  espnet-shrink space  --exp EXP --out OUT
  espnet-shrink search --exp EXP --proxy OUT/proxy --out OUT/search --target 2
  espnet-shrink rounds --exp EXP --proxy OUT/proxy --data dump/raw/dev --out OUT --target 5
  espnet-shrink report --exp EXP --out OUT --data_root dump/raw --test_sets "test" \\
                       --inference_tag TAG

EXP is an ordinary ESPnet experiment folder (config.yaml and valid.acc.ave.pth). Run from the
recipe folder, since the paths in ESPnet's configs are relative to it. Every verb resumes where
it was cut off, and does nothing when its result is there already."""


Verb = Callable[[argparse.Namespace], None]


def _proxy(args: argparse.Namespace) -> None:
    from espnet_shrink.stages import make_proxy, open_baseline

    made = make_proxy(
        open_baseline(args.exp, args.checkpoint), args.data, args.out, args.size, args.method,
        args.seed,
    )  # fmt: skip
    state = "made" if made.made else "already there"
    print(
        f"proxy set {made.folder}: {made.size} utterances ({state}); the uncompressed model has "
        f"WER {made.score.wer:.2f} CER {made.score.cer:.2f} on it, "
        f"{made.data_score.wer:.2f} and {made.data_score.cer:.2f} on all of {args.data}"
    )


def _space(args: argparse.Namespace) -> None:
    from espnet_shrink.lowrank.sites import survey
    from espnet_shrink.search.loop import SearchSettings
    from espnet_shrink.settings import load_settings
    from espnet_shrink.stages import make_space, open_baseline

    loaded = open_baseline(args.exp, args.checkpoint)
    settings = load_settings(SearchSettings, args.config, {})
    space = make_space(loaded, args.out, settings)
    found = survey(loaded.model)
    total = sum(p.numel() for p in loaded.model.parameters())
    print(f"{'site':<44} {'kind':<15} {'shape':>11} {'share':>6}  ranks")
    for site in found.sites:
        grid = space.grids[site.name]
        print(
            f"{site.name:<44} {site.kind:<15} {site.shape[0]:>5}x{site.shape[1]:<5} "
            f"{site.params / total:>6.1%}  {grid[0]} ... {grid[-1]} ({len(grid)})"
        )
    for other in found.uncompressed:
        if not other.reason.startswith("a vector"):
            print(f"{other.name:<44} not compressed: {other.reason}")
    vectors = sum(u.params for u in found.uncompressed if u.reason.startswith("a vector"))
    print(f"vectors (biases, norms) keep their {vectors:,} of {total:,} parameters")
    print(f"search space: {args.out / 'space.yaml'} (may be edited before the search)")


def _search(args: argparse.Namespace) -> None:
    from espnet_shrink.lowrank.sites import survey
    from espnet_shrink.proxy.features import extract
    from espnet_shrink.rounds import RoundsSettings
    from espnet_shrink.search.loop import SearchSettings
    from espnet_shrink.search.space import SearchSpace, geometric_space
    from espnet_shrink.settings import load_settings, require
    from espnet_shrink.stages import open_baseline, search_ranks

    settings = load_settings(
        SearchSettings, args.config,
        {"searcher": args.searcher, "reward": args.reward, "evaluations": args.evaluations,
         "seed": args.seed},
    )  # fmt: skip
    target = args.target
    if args.rounds_config is not None:
        target = load_settings(
            RoundsSettings, args.rounds_config, {"target": args.target}
        ).first_goal()
    require(target is not None, "give --target X, or --rounds_config FILE for its first round")
    require(target >= 1.0, f"target compression must be at least 1, not {target:g}")
    loaded = open_baseline(args.exp, args.checkpoint)
    sites = survey(loaded.model).sites
    if args.space is None:
        space = geometric_space(sites, settings.levels, settings.min_rank)
    else:
        space = SearchSpace.load(args.space)
        space.check(sites)
    full = sum(p.numel() for p in loaded.model.parameters())
    found = search_ranks(
        loaded, extract(loaded, args.proxy), space, settings, int(full / target), args.out
    )
    print(
        f"plan {args.out / 'plan.yaml'}: {full / found.params:.2f}x ({found.params:,} parameters), "
        f"proxy WER {found.score.wer:.2f} CER {found.score.cer:.2f} without retraining, "
        f"by {found.searcher} among {found.evaluations} plans"
    )


def _rounds(args: argparse.Namespace) -> None:
    from espnet_shrink.rounds import RoundsSettings, run_rounds
    from espnet_shrink.search.loop import SearchSettings
    from espnet_shrink.settings import load_settings
    from espnet_shrink.stages import open_baseline, read_plan

    settings = load_settings(RoundsSettings, args.config, {"target": args.target})
    search = load_settings(SearchSettings, args.search_config, {"seed": args.seed})
    plan = None if args.plan is None else read_plan(args.plan)
    loaded = open_baseline(args.exp, args.checkpoint)
    outcome = run_rounds(loaded, args.proxy, args.data, args.out, settings, search, args.ngpu, plan)
    if outcome.final is None:
        raise ShrinkError(
            f"no round kept dev WER within its limit (see {args.out}/round*/round.yaml): "
            "lower --target, or raise epochs in the rounds preset"
        )
    word = "reached" if outcome.reached_target else "NOT reached"
    print(
        f"target {settings.target:g}x {word}: {outcome.final.compression:.2f}x, "
        f"{outcome.final.params:,} of {outcome.baseline.params:,} parameters, "
        f"model in {args.out}/round{outcome.final.round}"
    )


def _report(args: argparse.Namespace) -> None:
    from espnet_shrink.files import write_text
    from espnet_shrink.report.collect import Sources, collect
    from espnet_shrink.report.page import report_html
    from espnet_shrink.report.results import save
    from espnet_shrink.report.tables import results_md, results_text

    results = collect(
        Sources(args.exp, args.out, args.data_root, args.test_sets.split(), args.inference_tag,
                args.corpus, args.command or [])
    )  # fmt: skip
    save(results, args.out / "results.json")
    write_text(args.out / "RESULTS.md", results_md(results))
    page = report_html(results, args.out)
    print(results_text(results))
    print(f"report: {page}, {args.out / 'RESULTS.md'}, {args.out / 'results.json'}")
    print(f"model:  {args.out / results.final.exp}")


def parser() -> argparse.ArgumentParser:
    """The command line, with help for every verb."""
    top = argparse.ArgumentParser(
        prog="espnet-shrink",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Verb, text: str) -> argparse.ArgumentParser:
        show_defaults = argparse.ArgumentDefaultsHelpFormatter
        new = verbs.add_parser(name, help=text, description=text, formatter_class=show_defaults)
        new.set_defaults(run=run)
        new.add_argument("--exp", type=Path, required=True, help="ESPnet experiment folder")
        new.add_argument("--out", type=Path, required=True, help="folder to write to")
        if name != "report":
            new.add_argument(
                "--checkpoint",
                help="model file in EXP; by default the first of valid.acc.ave.pth, "
                "valid.loss.ave.pth, valid.acc.best.pth, latest.pth",
            )
        return new

    proxy = verb("proxy", _proxy, "choose the few utterances on which plans are scored")
    proxy.add_argument("--data", type=Path, required=True, help="dev set, a Kaldi-style folder")
    proxy.add_argument("--size", type=int, default=100, help="utterances to choose")
    proxy.add_argument(
        "--method", default="stratified", help="random or stratified (by length and errors)"
    )
    proxy.add_argument("--seed", type=int, default=0, help="random seed")

    space = verb("space", _space, "list the sites and write the ranks that each may have")
    space.add_argument("--config", type=Path, help="search preset, as conf/search.yaml")

    search = verb("search", _search, "search a rank for every site within a budget")
    search.add_argument("--proxy", type=Path, required=True, help="proxy set")
    search.add_argument("--target", type=float, help="compression: parameters before / after")
    search.add_argument("--rounds_config", type=Path, help="rounds preset: aim at its first round")
    search.add_argument("--space", type=Path, help="space.yaml; by default made anew")
    search.add_argument("--config", type=Path, help="search preset, as conf/search.yaml")
    search.add_argument("--searcher", help="reinforce, uniform, energy or energy_order")
    search.add_argument("--reward", help="hard, soft, constant or proportional")
    search.add_argument("--evaluations", type=int, help="plans to score")
    search.add_argument("--seed", type=int, help="random seed")

    rounds = verb("rounds", _rounds, "search, factorise and retrain in rounds, to the target")
    rounds.add_argument("--proxy", type=Path, required=True, help="proxy set")
    rounds.add_argument("--data", type=Path, required=True, help="dev set, to accept rounds on")
    rounds.add_argument("--plan", type=Path, help="plan.yaml for the first round")
    rounds.add_argument("--config", type=Path, help="rounds preset, as conf/rounds.yaml")
    rounds.add_argument("--search_config", type=Path, help="search preset, as conf/search.yaml")
    rounds.add_argument("--target", type=float, help="compression: parameters before / after")
    rounds.add_argument("--seed", type=int, help="random seed of the searches")
    rounds.add_argument("--ngpu", type=int, default=0, help="GPUs to retrain on")

    report = verb("report", _report, "results.json, RESULTS.md, plots and an HTML page")
    report.add_argument("--data_root", type=Path, required=True, help="holds SET/text")
    report.add_argument("--test_sets", required=True, help="decoded sets, in one string")
    report.add_argument("--inference_tag", required=True, help="folder of the hypotheses in EXP")
    report.add_argument("--corpus", default="", help="name for the record")
    report.add_argument("--command", action="append", help="command for the record")
    return top


def main() -> None:
    """Entry point: bad input is one line on stderr and exit status 2."""
    args = parser().parse_args()
    skip_type_checks()
    # ESPnet warns at every decoding step of what only matters to tracing.
    logging.basicConfig(level=logging.ERROR)
    warnings.simplefilter("ignore")
    try:
        args.run(args)
    except ShrinkError as error:
        print(f"espnet-shrink {args.verb}: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
