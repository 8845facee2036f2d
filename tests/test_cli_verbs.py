"""The verbs on real files, from a trained model to the report; and again, which does nothing."""

import csv
import json
from pathlib import Path

import pytest
from conftest import COMMANDS, CONFIG, SEARCH, SETS, arguments, tree

from espnet_shrink.compat.models import find_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract, extract_all
from espnet_shrink.data.kaldi import read_folder
from espnet_shrink.data.moment_data import training_recordings
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.pipeline.opening import open_baseline
from espnet_shrink.pipeline.search import read_plan
from espnet_shrink.plan import Plan
from espnet_shrink.search.settings import SearchSettings
from espnet_shrink.search.space import SearchSpace

OUT = Path("small")


def test_the_verbs_leave_what_they_say(finished):
    for path in (
        "proxy/wav.scp", "proxy/text", "proxy/utt2spk", "proxy/spk2utt", "proxy/proxy.yaml",
        "space.yaml", "search/plan.yaml", "search/log.csv", "rounds.yaml",
        "round1/plan.yaml", "round1/round.yaml", "round1/config.yaml", "round1/valid.acc.ave.pth",
        "round2/search/plan.yaml", "control/config.yaml", "control/valid.acc.ave.pth",
        "results.json", "RESULTS.md", "report.html",
    ):  # fmt: skip
        assert (OUT / path).stat().st_size > 0, path
    assert list((OUT / "search/tensorboard").glob("events.*"))
    assert len(list(OUT.glob("*.png"))) >= 2
    assert not [path for path in OUT.rglob("*.part*")]


def test_the_proxy_set_is_a_part_of_dev_with_its_scores(finished):
    chosen, dev = read_folder(OUT / "proxy"), read_folder("dump/raw/dev")
    assert len(chosen) == 8 and set(chosen) < set(dev)
    baseline = open_baseline("exp/asr")
    scores = read_yaml(OUT / "proxy/proxy.yaml")
    for name, folder in (("proxy", OUT / "proxy"), ("data", "dump/raw/dev")):
        score = Scorer(baseline, extract(baseline, folder)).score()
        assert scores[name] == {"wer": score.wer, "cer": score.cer, "metric": "wer"}


def test_the_space_holds_every_site_of_the_model(finished):
    sites = survey(open_baseline("exp/asr").model).sites
    space = SearchSpace.load(OUT / "space.yaml")
    space.check(sites)
    assert list(space.ranges) == [site.name for site in sites]


def test_the_plan_is_the_best_on_dev_of_the_best_within_the_budget(finished):
    found = read_plan(OUT / "search/plan.yaml")
    baseline = open_baseline("exp/asr")
    full = sum(p.numel() for p in baseline.model.parameters())
    found.plan.check(survey(baseline.model).sites)
    assert full / found.params >= 1.6**0.5
    with (OUT / "search/log.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {"uniform", "energy", "energy_order", "reinforce"} == {row["source"] for row in rows}
    assert found.evaluations == len(rows) <= SEARCH["evaluations"]
    within = [row for row in rows if row["within_budget"] == "1"]
    within.sort(key=lambda row: (float(row["errors"]), int(row["params"])))
    with (OUT / "search/finalists.csv").open() as lines:
        finalists = list(csv.DictReader(lines))
    assert [row["plan"] for row in finalists] == [row["plan"] for row in within[:10]]
    best = min(finalists, key=lambda row: float(row["errors"]))
    assert best["plan"] == found.plan.hash and int(best["params"]) == found.params


def test_a_searched_plan_has_the_score_that_it_is_recorded_with(finished):
    from espnet_shrink.methods.lowrank.analysis import analyse

    baseline = open_baseline("exp/asr")
    proxy = extract(baseline, OUT / "proxy")
    recordings = training_recordings(baseline, {}, len(proxy.utterances), SearchSettings(**SEARCH))
    heard = extract_all(baseline, recordings)
    decompositions = analyse(baseline, proxy, "whitened", heard).decompositions
    header = read_yaml(OUT / "search/plan.yaml")
    for name, data in [("proxy", proxy), ("dev", extract(baseline, "dump/raw/dev"))]:
        score = Scorer(baseline, data, decompositions).score(Plan.load(OUT / "search/plan.yaml"))
        assert (header[f"{name}_wer"], header[f"{name}_cer"]) == (score.wer, score.cer)


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_second_run_changes_no_file(finished, shrink, verb):
    before = tree(finished)
    ended = shrink(*arguments(verb))
    assert ended.status == 0 and "Traceback" not in ended.err
    after = tree(finished)
    if verb == "report":  # made anew from what is there, with the same result
        before, after = ({n: content for n, (_, content) in t.items()} for t in (before, after))
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == []


def test_a_seed_decides_the_proxy_set_and_the_search(finished, shrink):
    command = ["search", "--exp", "exp/asr", "--proxy", OUT / "proxy", "--data", "dump/raw/dev",
               "--search_config", "search.yaml", "--target", 1.3, "--evaluations", 12]  # fmt: skip
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert shrink(*command, "--out", out, "--seed", seed).status == 0
        assert shrink("proxy", "--exp", "exp/asr", "--data", "dump/raw/dev", "--size", 5,
                      "--out", f"{out}/proxy", "--seed", seed).status == 0  # fmt: skip
    for name in ("log.csv", "plan.yaml", "proxy/text"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    assert Path("a/log.csv").read_bytes() != Path("c/log.csv").read_bytes()
    assert Path("a/proxy/text").read_bytes() != Path("c/proxy/text").read_bytes()


@pytest.mark.parametrize("searcher", ["uniform", "energy", "energy_order"])
@pytest.mark.parametrize("target", [1.0, 1.7])
def test_a_rule_as_the_searcher_gives_its_own_plan(finished, shrink, searcher, target):
    ended = shrink("search", "--exp", "exp/asr", "--proxy", OUT / "proxy", "--data",
                   "dump/raw/dev", "--search_config", "search.yaml", "--target", target,
                   "--out", "new", "--searcher", searcher)  # fmt: skip
    assert ended.status == 0
    found = read_plan(Path("new/plan.yaml"))
    assert found.searcher == searcher and found.evaluations <= 3


def test_what_the_verbs_say(finished, shrink):
    said = {verb: shrink(*arguments(verb)).out for verb in COMMANDS}
    assert "proxy set small/proxy: 8 utterances (already there)" in said["proxy"]
    sites = survey(open_baseline("exp/asr").model)
    for site in sites.sites:
        assert site.name in said["space"]
    for other in sites.uncompressed:
        assert (other.name in said["space"]) == (not other.reason.startswith("a vector"))
    assert "not compressed: decoder.embed.weight (" in said["space"]
    assert "plan small/search/plan.yaml: 1." in said["search"]
    assert "target 1.6x reached: 1." in said["rounds"]
    assert "model in small/round2" in said["rounds"]
    assert "report: small/report.html" in said["report"]
    assert "model:  small/round2" in said["report"]


def test_checkpoints_are_found_by_criterion_then_by_usual_names(recipe):
    exp = Path("exp/asr")
    order = ["valid.acc.ave.pth", "valid.acc.ave_1best.pth", "valid.acc.best.pth",
             "valid.loss.ave.pth", "latest.pth"]  # fmt: skip
    (exp / order[3]).write_bytes((exp / order[0]).read_bytes())
    last = f"{CONFIG['max_epoch']}epoch.pth"
    assert find_model(exp, last)[1] == exp / last
    for name in order:
        assert find_model(exp) == (exp / "config.yaml", exp / name)
        (exp / name).unlink()
        if name == "valid.acc.ave_1best.pth":  # ESPnet3's names
            for path in exp.glob("*ave_*best.pth"):
                path.unlink()
    with pytest.raises(ShrinkError, match="has no checkpoint .looked for valid.acc.ave.pth"):
        find_model(exp)


def test_help_of_the_program_names_every_verb(shrink):
    ended = shrink("--help")
    assert ended.status == 0 and ended.err == ""
    for verb in COMMANDS:
        assert f"\n  {verb} " in ended.out


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("proxy", ["choose the few utterances", "--size", "stratified"]),
        ("space", ["list the sites", "--search_config"]),
        ("search", ["search a rank for every site", "--target", "reinforce", "hard"]),
        ("rounds", ["retrain in rounds", "--target", "--ngpu", "dev set"]),
        ("report", ["results.json", "--test_sets", "--inference_tag"]),
    ],
)
def test_help_of_a_verb_says_what_it_does(shrink, verb, words):
    ended = shrink(verb, "--help")
    assert ended.status == 0 and ended.err == ""
    text = " ".join(ended.out.split())
    assert f"usage: espnet-shrink {verb}" in text
    assert all(word in text for word in words)


def test_results_are_valid_json_of_the_sets_that_were_decoded(finished):
    results = json.loads((OUT / "results.json").read_text())
    assert results["version"] == 2 and results["seed"] == SEARCH["seed"]
    assert list(results["baseline"]["scores"]["wer"]) == ["test"] and SETS["test"] == 6
