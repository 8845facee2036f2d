"""An utterance that is too short for a model is an empty hypothesis, as in ESPnet, and is named."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import RATE_HZ, SEARCH
from families import CONFORMER, plain_model

from espnet_shrink.compat.models import find_model, load_model
from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import read_audio, read_table
from espnet_shrink.objectives.score import Scorer

SHORT = {"a-stft": 200, "b-conv": 700}  # samples: less than half of n_fft, and 5 frames


def add_short(folder: Path, names=SHORT, alone: bool = False) -> None:
    """Add utterances that are too short, in front of the others or in place of them."""
    for name, what in (("wav.scp", "wav/{}.wav"), ("text", "ab cd"), ("utt2spk", "{}")):
        lines = "".join(f"{u} {what.format(u)}\n" for u in names)
        path = folder / name
        path.write_text(lines + ("" if alone else path.read_text()))
    for name, size in names.items():
        soundfile.write(f"wav/{name}.wav", 0.1 * np.sin(np.arange(size)), RATE_HZ)


@pytest.fixture
def conformer(recipe):
    loaded = plain_model(Path("exp/conformer"), CONFORMER)
    add_short(Path("dump/raw/dev"))
    return loaded


def test_it_is_empty_as_in_espnet_and_named_once(conformer, capfd):
    from espnet2.bin.asr_inference import Speech2Text

    data = extract(conformer, "dump/raw/dev")
    extract(conformer, "dump/raw/dev")
    assert capfd.readouterr().out.count("a-stft, b-conv") == 1
    assert [u.name for u, f in zip(data.utterances, data.features, strict=True) if not len(f)] == [
        "a-stft", "b-conv",
    ]  # fmt: skip
    espnets = Speech2Text("exp/conformer/config.yaml", "exp/conformer/valid.acc.ave.pth",
                          beam_size=1, ctc_weight=0.0)  # fmt: skip
    with pytest.raises(Exception, match="has 5 frames") as raised:  # which its inference catches
        espnets(read_audio(data.utterances[1], RATE_HZ))
    assert type(raised.value).__name__ == "TooShortUttError"
    for texts in Scorer(conformer, data).hypotheses().values():
        assert texts[:2] == ["", ""] and any(texts[2:])


def test_proxy_search_and_finalists_go_on(conformer, shrink):
    Path("search.yaml").write_text(yaml.safe_dump({**SEARCH, "evaluations": 8}))
    common = ["--exp", "exp/conformer", "--data", "dump/raw/dev"]
    count = len(read_table("dump/raw/dev/text"))
    ended = shrink("proxy", *common, "--out", "proxy", "--size", count, "--method", "random")
    assert ended.status == 0, ended.err
    ended = shrink("search", *common, "--proxy", "proxy", "--out", "search", "--target", 1.5,
                   "--search_config", "search.yaml")  # fmt: skip
    assert ended.status == 0, ended.err
    assert read_yaml("search/plan.yaml")["dev_wer"] > 0


def test_exported_files_hear_as_little(recipe, shrink):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    add_short(Path("dump/raw/dev"))
    ended = shrink("export", "--exp", "exp/asr", "--onnx", "--out", "exp/asr/onnx",
                   "--data", "dump/raw/dev")  # fmt: skip
    assert ended.status == 0, ended.err
    rows = read_yaml("exp/asr/onnx/results.yaml")["rows"]
    assert rows["ONNX, CTC greedy"]["wer"] == rows["torch, CTC greedy"]["wer"]
    data = extract(load_model(*find_model("exp/asr")), "dump/raw/dev")
    # This encoder takes five frames: only what the frontend cannot take is empty.
    assert [u.name for u, f in zip(data.utterances, data.features, strict=True) if not len(f)] == [
        "a-stft"
    ]  # fmt: skip


def test_only_such_are_refused_in_one_line(conformer, shrink):
    add_short(Path("dump/raw/dev"), alone=True)
    ended = shrink("proxy", "--exp", "exp/conformer", "--data", "dump/raw/dev", "--size", 2,
                   "--out", "out")  # fmt: skip
    assert ended.status == 2 and len(ended.err.splitlines()) == 1, ended
    assert "all 2 utterances (first: a-stft, wav/a-stft.wav) are too short" in ended.err
    assert not Path("out").exists()
