"""CER decides, and is called so, of texts without words; texts are compared as ESPnet does it."""

import csv
import json
import re
import shutil
import zipfile
from pathlib import Path

import jiwer
import pytest
import yaml
from conftest import ROUNDS, SEARCH, arguments

from espnet_shrink.compat.models import load_model
from espnet_shrink.compat.references import scored_texts
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract
from espnet_shrink.data.metric import metric_of, without_spaces
from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives.score import Scorer
from espnet_shrink.report.results import load

CHINESE = str.maketrans("abcd", "我们好吗")


@pytest.mark.parametrize(
    ("texts", "metric"),
    [
        (["我们好", "今天天气"], "cer"),
        (["我 们 好"], "cer"),
        (["今日 は 晴れ です"], "cer"),
        (["ありがとう OK", "カタカナ"], "cer"),
        (["สวัสดีครับวันนี้อากาศดี ขอบคุณมากครับ"], "cer"),
        (["ส วั ส ดี ค รั บ"], "cer"),
        (["เปิด", "ปิด"], "cer"),
        (["សួស្តីបងប្អូន"], "cer"),
        (["བཀྲ་ཤིས་བདེ་ལེགས"], "cer"),
        (["我们 just 去看电影", "你好吗"], "cer"),
        (["ฉัน ไป ตลาด กับ เพื่อน", "วันนี้ อากาศ ดี มาก"], "wer"),  # cut into words
        (["我 love you very much", "ok 你好"], "wer"),
        (["yes", "no", "stop"], "wer"),
        (["7", "4 1"], "wer"),
        (["안녕하세요 여러분"], "wer"),
        (["नमस्ते दुनिया"], "wer"),
        (["привет"], "wer"),
        (["Donaudampfschifffahrt"], "wer"),
        (["a, b!", "。", ""], "wer"),
    ],
)
def test_scripts_without_spaces_have_no_words(texts, metric):
    assert metric_of(texts) == metric


def test_spaces_between_characters_of_such_scripts_do_not_count():
    assert without_spaces(" 我 们  好 ok now 吗 ") == "我们好 ok now 吗"


def translate(text: Path, change) -> None:
    lines = [line.split(maxsplit=1) for line in text.read_text(encoding="utf-8").splitlines()]
    text.write_text("".join(f"{key} {change(words)}\n" for key, words in lines), encoding="utf-8")


def reconfigure(**changes) -> None:
    path = Path("exp/asr/config.yaml")
    path.write_text(yaml.safe_dump({**read_yaml(path), **changes}), encoding="utf-8")


def speak_chinese(spaces: bool) -> None:
    """The tones are syllables of Chinese now, for model and data alike."""
    tokens = [t.translate(CHINESE) if len(t) == 1 else t for t in read_yaml("exp/asr/config.yaml")
              ["token_list"]]  # fmt: skip
    Path("data/tokens.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    reconfigure(token_list=tokens)
    join = " ".join if spaces else "".join
    for text in Path("dump/raw").glob("*/text"):
        translate(text, lambda words: join(words.replace(" ", "").translate(CHINESE)))


@pytest.fixture
def presets():
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 8}), encoding="utf-8")
    rounds = {**ROUNDS, "target": 1.3, "final_epochs": 1, "control": False, "rollbacks": 0,
              "wer_limit_absolute": 0.5}  # fmt: skip
    Path("rounds.yaml").write_text(yaml.safe_dump(rounds), encoding="utf-8")
    for path in Path("stats/train").glob("*_shape"):  # a few utterances to retrain on
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))


WER = re.compile(r"\bWER\b")
PROXY = ["--data", "dump/raw/dev", "--size", 4]


@pytest.mark.parametrize("spaces", [False, True])
def test_the_proxy_set_is_chosen_and_told_by_cer(recipe, shrink, spaces):
    speak_chinese(spaces)
    done = shrink("proxy", "--exp", "exp/asr", *PROXY, "--out", "small/proxy")
    assert done.status == 0, done.err
    assert "CER" in done.out and not WER.search(done.out)
    facts = read_yaml("small/proxy/proxy.yaml")
    assert facts["data"]["metric"] == "cer"
    # The texts of the model have spaces of their own, between its words of old.
    loaded = load_model("exp/asr/config.yaml", "exp/asr/valid.acc.ave.pth")
    features = extract(loaded, "dump/raw/dev")
    rates = [
        100 * jiwer.cer([r.replace(" ", "") for r in features.references],
                        [t.replace(" ", "") for t in texts])
        for texts in Scorer(loaded, features).hypotheses().values()
    ]  # fmt: skip
    assert facts["data"]["cer"] == pytest.approx(sum(rates) / len(rates))
    assert min(rates) < 30  # the model does know the tones


@pytest.mark.slow
def test_search_and_rounds_are_decided_by_cer_and_the_report_says_so(recipe, presets, shrink):
    speak_chinese(False)
    options = ["--exp", "exp/asr", "--proxy", "dump/raw/test", "--data", "dump/raw/dev"]
    done = shrink("search", *options, "--out", "small/search", "--search_config", "search.yaml",
                  "--rounds_config", "rounds.yaml")  # fmt: skip
    assert done.status == 0, done.err
    assert "dev CER" in done.out and not WER.search(done.out + done.err)
    for row in csv.DictReader(Path("small/search/log.csv").open(encoding="utf-8")):
        assert row["errors"] == row["cer"] and row["metric"] == "cer"

    done = shrink("rounds", *options, "--out", "small", "--rounds_config", "rounds.yaml",
                  "--search_config", "search.yaml", "--plan", "small/search/plan.yaml")  # fmt: skip
    said = done.out + done.err
    assert not WER.search(said) and "baseline: dev CER" in said
    record = read_yaml("small/round1/round.yaml")
    baseline = float(re.search(r"baseline: dev CER ([\d.]+)", said).group(1))
    assert record["dev_wer_limit"] == pytest.approx(1.1 * baseline + 0.5, abs=0.01)
    within = record["dev"]["cer"] <= record["dev_wer_limit"]
    assert (record["status"] == "accepted") == within
    assert record["dev"]["metric"] == "cer"
    assert done.status == 0 or "no round kept dev CER within its limit" in done.err

    if not within:  # so that there is a round to report
        record["status"] = "accepted"
        Path("small/round1/round.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
        summary = read_yaml("small/rounds.yaml")
        Path("small/rounds.yaml").write_text(yaml.safe_dump({**summary, "rounds": 1, "final": 1}))
    for exp in ("exp/asr", "small/round1"):
        folder = Path(exp, "decode/test")
        folder.mkdir(parents=True)
        shutil.copy("dump/raw/test/text", folder / "text")
        translate(folder / "text", lambda words: " ".join(words[1:]))  # no logs: no RTF
    done = shrink(*arguments("report"))
    assert done.status == 0, done.err
    texts = [line.split()[1] for line in Path("dump/raw/test/text").read_text().splitlines()]
    results = load("small/results.json")
    assert results.metric == "cer" and results.baseline.rtf == {}
    assert results.baseline.cer["test"] == pytest.approx(100 * len(texts) / len("".join(texts)))
    low, high = results.baseline.cer_interval["test"]
    assert low <= results.baseline.cer["test"] <= high
    assert results.rounds[0].dev == record["dev"]["cer"]
    page = re.sub(r"base64,[^\"]*", "", Path("small/report.html").read_text(encoding="utf-8"))
    for text in (done.out, Path("small/RESULTS.md").read_text(encoding="utf-8"), page):
        assert "CER % " in text and "CER intervals" in text and not WER.search(text)
        assert f"{results.baseline.cer['test']:.2f} [" in text


@pytest.mark.slow
def test_one_command_packs_a_card_that_says_cer(recipe, presets, shrink):
    speak_chinese(True)
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--target", "1.3x", "--out",
                  "out", "--no-retrain", "--rounds_config", "rounds.yaml", "--search_config",
                  "search.yaml")  # fmt: skip
    assert done.status == 0, done.err
    assert not WER.search(done.out + done.err)
    (archive,) = Path("out").glob("*.zip")
    card = zipfile.ZipFile(archive).read("README.md").decode()
    assert "CER % dev [95 %]" in card and not WER.search(card)


def test_reports_of_the_first_versions_are_read(tmp_path):
    """They know no metric and no interval of CER."""
    old = json.loads(Path(__file__).with_name("results_version1.json").read_text())
    for key in ("metric", "left_out"):
        del old[key]
    for system in (old["baseline"], old["control"], old["final"], *old["rounds"]):
        del system["cer_interval"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    results = load(tmp_path / "old.json")
    assert results.metric == "wer" and results.final.cer_interval == {}


def test_references_pass_the_cleaner_that_the_model_was_trained_with(recipe, shrink):
    shrink("proxy", "--exp", "exp/asr", *PROXY, "--out", "plain")
    reconfigure(cleaner="whisper_basic")  # no capitals, no punctuation
    translate(Path("dump/raw/dev/text"), lambda words: f"{words.upper()}!")
    done = shrink("proxy", "--exp", "exp/asr", *PROXY, "--out", "small/proxy")
    assert done.status == 0 and "has WER" in done.out
    plain, cleaned = (read_yaml(f"{out}/proxy.yaml") for out in ("plain", "small/proxy"))
    # Not the proxy sets: an exclamation mark becomes a space, which teacher forcing hears.
    assert plain["data"] == cleaned["data"]


def test_the_report_compares_cleaned_references(finished, shrink):
    before = load("small/results.json")
    reconfigure(cleaner="whisper_basic")
    translate(Path("dump/raw/test/text"), lambda words: f"{words.upper()}!")
    done = shrink(*arguments("report"))
    assert done.status == 0, done.err
    assert load("small/results.json").final.wer == before.final.wer


def test_non_linguistic_symbols_count_on_neither_side(recipe, shrink):
    shrink("proxy", "--exp", "exp/asr", *PROXY, "--out", "plain")
    Path("data/nlsyms.txt").write_text("<noise>\n[laugh]\n")
    reconfigure(non_linguistic_symbols="data/nlsyms.txt")
    translate(Path("dump/raw/dev/text"), lambda words: f"<noise> {words} [laugh]")
    done = shrink("proxy", "--exp", "exp/asr", *PROXY, "--out", "small/proxy")
    assert done.status == 0, done.err
    first, second = (read_yaml(f"{out}/proxy.yaml")["data"] for out in ("plain", "small/proxy"))
    assert first == second
    texts = scored_texts(read_yaml("exp/asr/config.yaml"), "exp/asr/config.yaml")
    assert texts.hypothesis("a <noise> b[laugh]") == "a b"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cleaner": "nosuch"}, "exp/asr/config.yaml: cleaner nosuch: RuntimeError: "),
        ({"non_linguistic_symbols": "data/nosuch.txt"}, "symbols data/nosuch.txt cannot be read"),
    ],
)
def test_a_cleaner_or_list_that_is_not_there_is_one_line(recipe, shrink, changes, said):
    with pytest.raises(ShrinkError, match=re.escape(said)):
        scored_texts(changes, "exp/asr/config.yaml")
    reconfigure(**changes)
    done = shrink("proxy", "--exp", "exp/asr", *PROXY, "--out", "out")
    assert done.status == 2 and len(done.err.splitlines()) == 1 and not Path("out").exists()


def said_aloud() -> None:
    """The references of dev become what the model says, as hardly trained as it is."""
    base = load_model(Path("exp/asr/config.yaml"), Path("exp/asr/valid.acc.ave.pth"))
    dev = extract(base, Path("dump/raw/dev"))
    first = next(iter(Scorer(base, dev).hypotheses().values()))
    lines = [f"{u.name} {words or 'a'}\n" for u, words in zip(dev.utterances, first, strict=True)]
    Path("dump/raw/dev/text").write_text("".join(lines), encoding="utf-8")


def upper(words):
    return words.upper()


def cyrillic(words):
    return words.translate(str.maketrans("abcd", "абцд"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (upper, "with its references in lower case it has"),
        (cyrillic, "likely another language or script"),
    ],
)
def test_a_base_model_that_recognises_nothing_is_doubted_with_a_reason(
    recipe, shrink, presets, change, reason
):
    said_aloud()
    translate(Path("dump/raw/dev/text"), change)
    done = shrink("proxy", "--exp", "exp/asr", *PROXY, "--out", "small/proxy")
    assert done.status == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    assert "the uncompressed model has a WER of" in line and reason in line
    done = shrink("compress", "exp/asr", "--data", "dump/raw/dev", "--target", "1.3x", "--out",
                  "out", "--no-retrain", "--rounds_config", "rounds.yaml", "--search_config",
                  "search.yaml")  # fmt: skip
    assert done.out.count(line) == 1
