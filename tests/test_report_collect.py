"""results.json holds what rounds and decoding left on disk, and names what is missing."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import CONFIG, LOSES, ROUNDS, arguments
from test_espnet_checkpoints import Touch

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.compat.trainer import trained_epochs
from espnet_shrink.core.files import read_yaml, sha256
from espnet_shrink.layers.quantised import quantised_sizes
from espnet_shrink.report.results import load

OUT = Path("small")


@pytest.fixture
def results(finished):
    return load(OUT / "results.json")


def rate(exp: str) -> float:
    """WER of the hypotheses in percent: every lost word is one error."""
    texts = [line.split()[1:] for line in Path("dump/raw/test/text").read_text().splitlines()]
    return 100 * LOSES[exp] / sum(map(len, texts))


def test_word_errors_and_speed_are_those_of_the_decoded_sets(results):
    systems = {"exp/asr": results.baseline, "small/control": results.control,
               "small/round1": results.rounds[0], "small/round2": results.rounds[1]}  # fmt: skip
    for exp, system in systems.items():
        assert system.wer == {"test": pytest.approx(rate(exp))}
        assert system.rtf == {"test": pytest.approx(0.025 + 0.1 * LOSES[exp])}
        low, high = system.wer_interval["test"]
        assert low <= system.wer["test"] <= high
        assert (OUT / system.exp).resolve() == Path(exp).resolve()
        assert not Path(system.exp).is_absolute()


def test_the_final_model_is_the_last_accepted_round(results):
    final, last = results.final, results.rounds[1]
    assert (final.round, final.exp, final.wer) == (2, "round2", last.wer)
    assert final.compression == last.compression == results.baseline.params / last.params


def test_rounds_are_recorded_as_they_went(results):
    for found in results.rounds:
        record = read_yaml(OUT / f"round{found.round}" / "round.yaml")
        assert found.ranks == record["ranks"]
        assert (found.params, found.compression) == (record["params"], record["compression"])
        assert (found.dev, found.dev_limit) == (
            record["dev"]["wer"], record["dev_wer_limit"],
        )  # fmt: skip
        assert found.epochs == ROUNDS["epochs" if found.round == 1 else "final_epochs"]
        assert all(isinstance(r, str) or r <= found.full_ranks[s] for s, r in found.ranks.items())


def test_a_round_decoded_before_its_retraining_shows_what_that_gained(finished, shrink):
    """Stage 20 decodes the start of each round beside its end."""
    folder = OUT / "round1/decode_before_retraining"
    shutil.copytree("small/control/decode", folder)
    assert shrink(*arguments("report")).status == 0
    first, second = load(OUT / "results.json").rounds
    assert first.before_retraining == {"test": pytest.approx(rate("small/control"))}
    assert first.wer == {"test": pytest.approx(rate("small/round1"))}
    assert second.before_retraining == {}


def test_the_quantised_final_model_has_a_row_once_it_is_decoded(finished, shrink, results):
    """Stage 20 decodes it under a tag of its own."""
    assert results.variants == []
    shutil.copytree("small/control/decode", OUT / "round2/decode_int8")
    assert shrink(*arguments("report")).status == 0
    (row,) = load(OUT / "results.json").variants
    sizes = quantised_sizes(load_model(*find_model(OUT / "round2")).model)
    assert (row.name, row.exp) == ("int8 (torch)", "round2/decode_int8")
    assert (row.size_mib, row.memory_mib) == (sizes.disk_mib, sizes.memory_mib)
    assert row.wer == {"test": pytest.approx(rate("small/control"))}
    assert row.rtf == {"test": pytest.approx(0.025 + 0.1 * LOSES["small/control"])}


def onnx_rows(checkpoint: Path, sets: list[str]) -> None:
    """onnx/results.yaml as `export --onnx --data` leaves it."""
    scores = {key: dict.fromkeys(sets, 4.0) for key in ("wer", "cer", "rtf")}
    row = {**scores, "wer_interval": dict.fromkeys(sets, [3.0, 5.0]), "size_mib": 1.5,
           "memory_mib": 2.5}  # fmt: skip
    (OUT / "round2/onnx").mkdir(exist_ok=True)
    text = yaml.safe_dump({"sha256": sha256(checkpoint), "rows": {"ONNX, CTC greedy": row}})
    (OUT / "round2/onnx/results.yaml").write_text(text)


def test_onnx_files_have_rows_once_they_have_decoded_a_set_of_the_report(finished, shrink):
    checkpoint = OUT / "round2/valid.acc.ave.pth"
    onnx_rows(checkpoint, ["dev"])
    assert shrink(*arguments("report")).status == 0
    assert load(OUT / "results.json").variants == []
    onnx_rows(checkpoint, ["dev", "test"])
    assert shrink(*arguments("report")).status == 0
    (row,) = load(OUT / "results.json").variants
    assert (row.name, row.exp, row.wer) == ("ONNX, CTC greedy", "round2/onnx", {"test": 4.0})
    assert (row.size_mib, row.memory_mib) == (1.5, 2.5)
    onnx_rows(OUT / "round1/valid.acc.ave.pth", ["test"])
    ended = shrink(*arguments("report"))
    assert ended.status == 2 and "was exported from another checkpoint" in ended.err


def test_epochs_and_the_record_of_the_run(results):
    assert results.baseline.epochs == CONFIG["max_epoch"]
    assert results.control.epochs == ROUNDS["epochs"] + ROUNDS["final_epochs"]
    assert (results.seed, results.corpus, results.commands) == (3, "tones", ["./run.sh"])
    assert results.versions.torch == str(torch.__version__)


def test_a_baseline_trained_elsewhere_is_never_unpickled(finished, shrink):
    """Its checkpoint.pth is a training state, which only ESPnet's trainer should open."""
    torch.save({"reporter": Touch(Path("executed"))}, "exp/asr/checkpoint.pth")
    assert shrink(*arguments("report")).status == 0
    assert not Path("executed").exists()
    assert trained_epochs(Path("exp/asr")) == CONFIG["max_epoch"]
    assert trained_epochs(Path("wav")) == 0


def test_without_its_epochs_the_baselines_config_says_how_many_there_were(finished, shrink):
    for path in Path("exp/asr").glob("*"):
        if path.name not in ("config.yaml", "decode"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert shrink(*arguments("report")).status == 0
    assert load(OUT / "results.json").baseline.epochs == CONFIG["max_epoch"]


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("small/rounds.yaml", "run the rounds first"),
        ("small/round1/decode/test/text", "decode it first"),
        ("exp/asr/decode", "exp/asr/decode/test/text: decode it first"),
        ("small/control/decode", "small/control/decode/test/text: decode it first"),
        ("dump/raw/test/text", "dump/raw/test/text: make the data first"),
        ("small/round1/round.yaml", "no such file: small/round1/round.yaml"),
        ("small/settings.yaml", "no such file: small/settings.yaml"),
    ],
)
def test_what_is_missing_is_named_and_the_old_report_stays(finished, shrink, lost, named):
    before = (OUT / "results.json").read_bytes()
    path = Path(lost)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    ended = shrink(*arguments("report"))
    assert ended.status == 2 and len(ended.err.splitlines()) == 1
    assert ended.err.startswith("espnet-shrink report: ") and named in ended.err
    assert (OUT / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "named"),
    [("test0-00 aa\n", "have no hypothesis"), ("", "holds no utterances"), ("\xff", "")],
)
def test_hypotheses_that_do_not_fit_are_refused(finished, shrink, content, named):
    Path("small/round1/decode/test/text").write_text(content, encoding="latin-1")
    ended = shrink(*arguments("report"))
    assert ended.status == 2 and len(ended.err.splitlines()) == 1 and named in ended.err


def test_what_could_not_be_measured_or_run_is_an_empty_cell_or_left_out_by_name(finished, shrink):
    """ESPnet measures no real-time factor of some kinds of decoding, and cannot run some forms."""
    Path("small/round1/decode/test/logdir/calculate_rtf.log").write_text("no such line\n")
    Path("small/round2/decode/test/logdir/calculate_rtf.log").write_text("RTF: 2.5e-05\n")
    shutil.rmtree("exp/asr/decode/test/logdir")
    shutil.rmtree("small/control")
    (OUT / "round2/decode_int8_left_out.txt").write_text("its search cannot be quantised\n")
    ended = shrink(*arguments("report"))
    assert ended.status == 0, ended.err
    results = load(OUT / "results.json")
    assert results.baseline.rtf == results.rounds[0].rtf == {} and results.control is None
    assert results.final.rtf == {"test": 2.5e-05}
    rows = [line.split() for line in ended.out.splitlines() if line.startswith(("base", "round"))]
    assert [row[-1] for row in rows] == ["-", "-", "0.000"]
    said = "int8 (torch) has no row: its search cannot be quantised"
    for text in (ended.out, *(Path(OUT, n).read_text() for n in ("RESULTS.md", "report.html"))):
        assert said in text
    (OUT / "round2/decode_int8_left_out.txt").unlink()
    (OUT / "round2/decode_int8/test").mkdir(parents=True)
    assert shrink(*arguments("report")).status == 0
    (form,) = load(OUT / "results.json").left_out
    assert (form.name, form.reason) == ("int8 (torch)", "test was not decoded with it")


def test_a_set_that_was_not_decoded_is_refused(finished, shrink):
    options = arguments("report")
    options[options.index("test")] = "test other"
    ended = shrink(*options)
    assert ended.status == 2 and "small/round1/decode/other/text: decode it first" in ended.err
