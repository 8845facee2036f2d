"""Several sizes in one report, any metric, and results.json of version 1."""

import copy
import json
import shutil
import zipfile
from pathlib import Path

import matplotlib.image
import pytest
import yaml
from conftest import arguments
from test_report_documents import markdown_table

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.report.documents import results_md, results_text
from espnet_shrink.report.page import report_html
from espnet_shrink.report.pareto import plot_pareto
from espnet_shrink.report.results import load, save

OUT = Path("small")
FULL = 4_000_000
LINE = "WER % test [95 %]"


def estimate(value):
    return {"test": {"value": value, "interval": [0.8 * value, 1.2 * value]}}


def measured(params, score, metric="wer"):
    scores = {metric: estimate(score)}
    if metric == "wer":
        scores["cer"] = estimate(score / 2)
    return {
        "params": params, "size_mib": params * 4 / 2**20, "macs_per_audio_second": 42.0 * params,
        "scores": scores, "rtf": {"test": 0.05}, "exp": f"exp/{params}",
    }  # fmt: skip


def a_size(target, score, control=2.2, accepted=True, metric="wer"):
    """One round, accepted or not."""
    params = int(FULL / target)
    model = measured(params, score, metric) | {"exp": f"{target:g}x/round1"}
    outcome = {} if accepted else {"scores": {}, "rtf": {}}
    a_round = model | outcome | {
        "round": 1, "status": "accepted" if accepted else "rolled_back", "compression": target,
        "target_compression": target, "search_evaluations": 50, "searcher": "reinforce",
        "epochs": 4, "dev": 2.0, "dev_limit": 3.0, "before_retraining": {},
        "ranks": {"encoder.weight": int(64 / target)}, "full_ranks": {"encoder.weight": 64},
    }  # fmt: skip
    return {
        "target": target, "reached": accepted,
        "control": control and measured(FULL, control, metric) | {"epochs": 13},
        "rounds": [a_round],
        "final": model | {"compression": target, "round": 1} if accepted else None,
    }  # fmt: skip


def document(*sizes, metric="wer", baseline=2.4):
    versions = {"python": "3", "torch": "2", "espnet": "202511", "espnet_shrink": "0.1.0"}
    return {
        "version": 2, "metric": metric, "seed": 7, "corpus": "mini",
        "baseline": measured(FULL, baseline, metric) | {"epochs": 9}, "sizes": list(sizes),
        "variants": [], "uncompressed": [], "left_out": [], "versions": versions, "commands": [],
    }  # fmt: skip


def three():
    return document(a_size(2.0, 2.0), a_size(3.0, 2.3, control=2.5), a_size(5.0, 3.1))


def loaded(folder, data):
    (folder / "given.json").write_text(json.dumps(data))
    return load(folder / "given.json")


def test_a_report_of_version_1_is_read_and_saved_as_version_2(tmp_path):
    path = Path(__file__).with_name("results_version1.json")
    old, results = json.loads(path.read_text()), load(path)
    (size,) = results.sizes
    assert (size.target, size.reached) == (None, None)
    assert results.metric == "wer" and results.commands == old["commands"]
    pairs = [(old["baseline"], results.baseline), (old["control"], size.control),
             (old["final"], size.final), *zip(old["rounds"], size.rounds, strict=True)]  # fmt: skip
    for before, now in pairs:
        for metric in ("wer", "cer"):
            assert now.values(metric) == before[metric]
            spans = {name: list(span) for name, span in now.intervals(metric).items()}
            assert spans == before[f"{metric}_interval"]
        for key in ("params", "size_mib", "macs_per_audio_second", "rtf", "exp"):
            assert getattr(now, key) == before[key]
    for before, now in zip(old["rounds"], results.rounds, strict=True):
        assert (now.dev, now.dev_limit) == (before["dev_wer"], before["dev_wer_limit"])
        assert now.before_retraining == before["wer_before_retraining"]
        assert now.ranks == before["ranks"]
    assert [vars(u) for u in results.uncompressed] == old["uncompressed"]
    save(results, tmp_path / "new.json")
    assert json.loads((tmp_path / "new.json").read_text())["version"] == 2
    assert load(tmp_path / "new.json") == results


def test_a_version_1_without_an_accepted_round_has_no_model(tmp_path):
    old = json.loads(Path(__file__).with_name("results_version1.json").read_text())
    baseline = {key: value for key, value in old["baseline"].items() if key != "epochs"}
    old |= {"rounds": [], "final": baseline | {"compression": 1.0, "round": 0}}
    results = loaded(tmp_path, old)
    assert results.smallest.final is None
    assert (results.final.round, results.final.exp) == (0, old["baseline"]["exp"])
    assert "final (baseline)" in results_md(results)


def test_several_sizes_survive_the_file(tmp_path):
    results = loaded(tmp_path, three())
    save(results, tmp_path / "saved.json")
    assert load(tmp_path / "saved.json") == results
    assert json.loads((tmp_path / "saved.json").read_text()) == three()
    assert results.final == results.sizes[2].final and results.smallest.name == "5x"


def put(data, keys, value):
    *path, last = keys
    for key in path:
        data = data[key]
    data[last] = value


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (["sizes"], [], "sizes"),
        (["sizes", 1, "target"], 2.0, "the same `target` twice"),
        (["sizes", 0, "target"], 0, "sizes[0].target"),
        (["sizes", 0, "final", "round"], 2, "`final.round` is not an accepted round"),
        (["sizes", 1, "control", "scores", "wer"], {}, "sizes[1].control"),
        (["sizes", 2, "final", "scores"], {"cer": estimate(1.0)}, "`sizes[2].final`"),
        (["sizes", 2, "final", "scores", "wer", "test", "interval"], None, "no interval of `wer`"),
        (["sizes", 2, "final", "scores", "cer", "test", "interval"], [3, 1], "`cer` of test"),
        (["sizes", 0, "rounds", 0, "status"], "rolled_back", "final.round"),
        (["sizes", 0, "reached"], "yes", "sizes[0].reached"),
        (["metric"], "ppl", "`baseline` has no `ppl`"),
        (["baseline", "scores", "wer", "test", "value"], -1, "value"),
        (["variants"], [{"name": "int8", "target": 4.0, "size_mib": 1, "memory_mib": 1,
                         "scores": {"wer": estimate(2)}, "rtf": {}, "exp": "x"}],
         "variants[0].target"),
    ],
)  # fmt: skip
def test_what_is_at_odds_is_refused_by_key(tmp_path, keys, value, says):
    data = copy.deepcopy(three())
    put(data, keys, value)
    with pytest.raises(ShrinkError) as error:
        loaded(tmp_path, data)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_every_size_is_one_row_held_against_the_better_of_baseline_and_its_control(tmp_path):
    results = loaded(tmp_path, three())
    rows = {row["system"]: row for row in markdown_table(results_md(results), "WER, CER, RTF")}
    assert list(rows) == [
        "baseline", "control 2x", "control 3x", "control 5x", "2x", "3x", "5x"
    ]  # fmt: skip
    for name, target, score, best in (
        ("2x", 2, 2.0, 2.2),
        ("3x", 3, 2.3, 2.4),
        ("5x", 5, 3.1, 2.2),
    ):
        row = rows[name]
        assert float(row["compression"]) == target
        assert float(row["params (M)"]) == pytest.approx(FULL / target / 1e6, abs=5e-4)
        assert row[LINE] == f"{score:.2f} [{0.8 * score:.2f}, {1.2 * score:.2f}]"
        assert float(row["difference test"]) == pytest.approx(score - best)
    assert {name for name, row in rows.items() if row[LINE].endswith("*")} == {
        "baseline", "control 2x", "control 5x"
    }  # fmt: skip
    text = results_text(results)
    assert max(map(len, text.split("\n\n")[0].splitlines())) <= 110
    for name in ("2x", "3x", "5x"):
        assert f"test, {name}: the better uncompressed model is" in text
    ranks = markdown_table(results_md(results), "Rank of each site")
    assert ranks == [
        {"site": "encoder.weight", "full rank": "64", "2x": "32", "3x": "21", "5x": "12"}
    ]


def test_a_size_that_was_not_reached_keeps_its_row_and_says_why(tmp_path):
    data = document(a_size(2.0, 2.0), a_size(3.0, 2.3), a_size(5.0, 3.1, None, accepted=False))
    data["sizes"][1] |= {"target": 3.5, "reached": False}
    results = loaded(tmp_path, data)
    assert results.smallest.name == "3.5x"
    report_html(results, tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    for text in (results_md(results), results_text(results), page):
        assert "3.5x was not reached: it is 3.00x" in text
        assert "5x has no model: no round (of 1) kept its dev WER within the limit" in text
    row = markdown_table(results_md(results), "WER, CER, RTF")[-1]
    assert row.pop("system") == "5x" and set(row.values()) == {"-"}
    assert "2.00 and 3.00 times smaller" in page


def test_nothing_reached_can_still_be_reported(tmp_path):
    sizes = [a_size(target, 3.0, None, accepted=False) for target in (2.0, 3.0)]
    results = loaded(tmp_path, document(*sizes))
    report_html(results, tmp_path / "out")
    assert results.final.round == 0 and "3x has no model" in results_md(results)


def test_the_plot_of_several_sizes_shows_each_of_them(tmp_path):
    """A size less, and another score of one of them, are other pictures."""
    pictures = set()
    fewer, worse = three(), three()
    del fewer["sizes"][1]
    worse["sizes"][1]["final"]["scores"]["wer"] = estimate(2.9)
    for data in (three(), fewer, worse):
        plot_pareto(loaded(tmp_path, data), tmp_path / "pareto.png")
        pictures.add((tmp_path / "pareto.png").read_bytes())
    assert len(pictures) == 3
    height, width, _ = matplotlib.image.imread(tmp_path / "pareto.png").shape
    assert width == 1200 and height > 500


def test_several_sizes_have_one_picture_of_them_all(tmp_path):
    results = loaded(tmp_path, three())
    page = report_html(results, tmp_path / "out").read_text()
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"pareto.png", "ranks.png"}
    assert page.count("data:image/png;base64,") == 2
    assert results_md(results).count("(pareto.png)") == 1
    for exp in ("2x/round1", "3x/round1", "5x/round1"):
        assert exp in page and exp in results_md(results)
    one = loaded(tmp_path, document(a_size(5.0, 3.1)))
    report_html(one, tmp_path / "one")
    assert {p.name for p in (tmp_path / "one").glob("*.png")} == {"wer.png", "ranks.png"}
    assert "pareto" not in results_md(one) and "final (round 1)" in results_md(one)


def test_perplexity_is_a_metric_without_percent(tmp_path):
    sizes = [a_size(t, s, 61.0, metric="ppl") for t, s in ((2.0, 60.0), (4.0, 70.0))]
    results = loaded(tmp_path, document(*sizes, metric="ppl", baseline=62.0))
    text = results_md(results)
    rows = markdown_table(text, "PPL, RTF")
    assert rows[-1]["PPL test [95 %]"] == "70.00 [56.00, 84.00]"
    assert rows[-1]["difference test"] == "+9.00"
    assert "WER" not in text and "PPL %" not in text
    report_html(results, tmp_path / "out")


def test_forms_are_of_one_size(tmp_path):
    data = three()
    form = {"name": "int8 (torch)", "target": 3.0, "size_mib": 1.0, "memory_mib": 2.0}
    data["variants"] = [form | {"scores": {"wer": estimate(2.6)}, "rtf": {}, "exp": "3x/int8"}]
    rows = markdown_table(results_md(loaded(tmp_path, data)), "The final model in other forms")
    assert [row["final model as"] for row in rows] == ["3x, float32 (torch)", "3x, int8 (torch)"]
    assert rows[1]["CER % test"] == "-"


@pytest.fixture
def sizes(finished):
    """small/2x with one round, small/3x with two, and small/5x whose rounds were rolled back."""
    settings, summary = read_yaml(OUT / "settings.yaml"), read_yaml(OUT / "rounds.yaml")
    kept = ["round1", "round2", "control"]
    of_sizes = {
        "2x": {"rounds": 1, "final": 1}, "3x": {"reached_target": False}, "5x": {"final": None},
    }  # fmt: skip
    for name, change in of_sizes.items():
        for folder in kept:
            shutil.copytree(OUT / folder, OUT / name / folder, symlinks=True)
        target = {"target": float(name.removesuffix("x"))}
        (OUT / name / "settings.yaml").write_text(yaml.safe_dump(settings | target))
        (OUT / name / "rounds.yaml").write_text(yaml.safe_dump(summary | change))
    for folder in kept:
        shutil.rmtree(OUT / folder)
    shutil.rmtree(OUT / "5x/control")
    for path in (OUT / "5x").glob("round*/round.yaml"):
        path.write_text(yaml.safe_dump(read_yaml(path) | {"status": "rolled_back"}))
        shutil.rmtree(path.parent / "decode")
    for path in ("results.json", "settings.yaml", "rounds.yaml", "wer.png"):
        (OUT / path).unlink()


def test_three_sizes_are_collected_from_their_folders(sizes, shrink):
    shutil.copytree("small/3x/control/decode", "small/2x/round1/decode_int8")
    (OUT / "3x/round2/decode_int8_left_out.txt").write_text("it cannot be quantised\n")
    ended = shrink(*arguments("report"))
    assert ended.status == 0, ended.err
    results = load(OUT / "results.json")
    assert [(s.name, s.target, len(s.rounds)) for s in results.sizes] == [
        ("2x", 2.0, 1), ("3x", 3.0, 2), ("5x", 5.0, 2)
    ]  # fmt: skip
    two, three, five = results.sizes
    assert (two.final.exp, three.final.exp, five.final) == ("2x/round1", "3x/round2", None)
    assert (two.control.exp, five.control) == ("2x/control", None)
    assert (two.reached, three.reached) == (True, False)
    assert {r.status for r in five.rounds} == {"rolled_back"}
    assert results.final == three.final
    assert two.final.wer == two.rounds[0].wer != three.final.wer == three.rounds[1].wer
    (form,) = results.variants
    assert (form.name, form.target, form.exp) == ("int8 (torch)", 2.0, "2x/round1/decode_int8")
    assert [each.name for each in results.left_out] == ["int8 (torch) of 3x"]
    rows = markdown_table((OUT / "RESULTS.md").read_text(), "WER, CER, RTF")
    assert [row["system"] for row in rows] == [
        "baseline", "control 2x", "control 3x", "2x", "3x", "5x"
    ]  # fmt: skip
    assert (OUT / "pareto.png").exists() and not (OUT / "wer.png").exists()
    assert "5x has no model" in ended.out and "small/3x/round2" in ended.out


def test_each_size_is_packed_with_its_own_card(sizes, shrink):
    assert shrink(*arguments("report")).status == 0
    results = load(OUT / "results.json")
    pack = ["pack", "--base", "exp/asr", "--report", OUT]
    for size in results.sizes[:2]:
        ended = shrink(*pack, "--exp", OUT / size.final.exp, "--out", f"{size.name}.zip")
        assert ended.status == 0, ended.err
        with zipfile.ZipFile(f"{size.name}.zip") as archive:
            card = archive.read("README.md").decode()
            assert {"pareto.png", "results.json"} <= set(archive.namelist())
        assert f"made {size.final.compression:.2f} times smaller" in card
        assert f"{size.final.params:,} of {results.baseline.params:,} parameters" in card
        assert f"test, {size.name}: " in card and "|3x|" in card
    ended = shrink(*pack, "--exp", "small/3x/round1", "--out", "none.zip")
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert "small/3x/round1 is no final model" in ended.err and "small/3x/round2 (3x)" in ended.err
    assert not Path("none.zip").exists()


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("settings.yaml", {"target": 2.0}, "rounds towards the same target"),
        ("settings.yaml", {"base_hash": "0"}, "of different models"),
        ("rounds.yaml", {"metric": "cer"}, "judged by different metrics"),
        ("rounds.yaml", None, "small/3x/rounds.yaml: run the rounds first"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(sizes, shrink, file, change, says):
    path = OUT / "3x" / file
    if change is None:
        path.unlink()
    else:
        path.write_text(yaml.safe_dump(read_yaml(path) | change))
    ended = shrink(*arguments("report"))
    assert ended.status == 2 and says in ended.err and len(ended.err.splitlines()) == 1
    assert not (OUT / "results.json").exists()
