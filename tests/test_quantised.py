"""Dynamic quantisation as ESPnet does it, on compressed models: it works, and is weighed right."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import python
from families import CONFORMER, compressed_model
from test_run_sh import EGS, ENVIRONMENT
from toy import close

from espnet_shrink.data.kaldi import read_folder
from espnet_shrink.layers import LowRankLSTM
from espnet_shrink.layers.quantised import INFERENCE_ARGS, quantise, quantised_sizes

SCALE_BYTES = 16
INT8 = {"quantize_asr_model": True, "quantize_modules": ["Linear", "LSTM"]}


def linears(model):
    return [m for m in model.modules() if type(m) is torch.nn.Linear]


def texts(config, checkpoint, **options) -> list[str]:
    from espnet2.bin.asr_inference import Speech2Text

    decode = Speech2Text(str(config), str(checkpoint), beam_size=2, **options)
    return [
        decode(soundfile.read(u.audio, dtype="float32")[0])[0][0]
        for u in read_folder("dump/raw/test")
    ]


def ctc_probabilities(config, checkpoint, **options) -> torch.Tensor:
    """(frames, tokens) of the first test utterance."""
    from espnet2.bin.asr_inference import Speech2Text

    model = Speech2Text(str(config), str(checkpoint), **options).asr_model
    samples = soundfile.read(read_folder("dump/raw/test")[0].audio, dtype="float32")[0]
    with torch.no_grad():
        encoded, _ = model.encode(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        return model.ctc.softmax(encoded)[0]


def test_espnets_inference_program_decodes_a_quantised_model(small, recipe):
    done = python(
        "-m", "espnet_shrink.run", "-m", "espnet2.bin.asr_inference", "--asr_train_config",
        small.config, "--asr_model_file", small.checkpoint, "--output_dir", "int8",
        "--data_path_and_name_and_type", "dump/raw/test/wav.scp,speech,sound",
        "--beam_size", 2, *INFERENCE_ARGS.split(), cwd=recipe,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Use quantized asr model" in done.stderr
    lines = Path("int8/1best_recog/text").read_text().splitlines()
    found = [line.partition(" ")[2] for line in lines]
    assert found == texts(small.config, small.checkpoint, **INT8)


@pytest.mark.parametrize("which", ["small", "baseline"])
def test_a_quantised_model_says_nearly_the_same(which, small, baseline):
    """Also one whose LSTMs are torch's own."""
    loaded = {"small": small, "baseline": baseline}[which]
    before, after = (
        ctc_probabilities(loaded.config, loaded.checkpoint, **options) for options in ({}, INT8)
    )
    assert 0 < (after - before).abs().max() < 0.1


def test_sizes_count_every_number_once(small):
    """Low-rank Linears and LSTMs are int8; cells stay float."""
    sizes = quantised_sizes(small.model)
    weights = [linear.weight.numel() for linear in linears(small.model)]
    lstms = [m for m in small.model.modules() if isinstance(m, LowRankLSTM)]
    named = [pair for m in lstms for pair in m.named_parameters() if "weight" in pair[0]]
    matrices = [p.numel() for _, p in named]
    # A scale for each component, that is row of V, or each row of a dense matrix.
    scales = [len(p) for n, p in named if not n.endswith("_U")]
    assert matrices and sum(scales)
    assert sizes.int8_mib * 2**20 == (
        sum(weights) + SCALE_BYTES * len(weights) + sum(matrices) + 4 * sum(scales)
    )
    bytes_before = sum(x.numel() * x.element_size() for x in small.model.state_dict().values())
    assert sizes.float_mib * 2**20 == bytes_before - 4 * (sum(weights) + sum(matrices))
    assert sizes.memory_mib == sizes.int8_mib + sizes.float_mib


def test_a_plain_lstm_is_quantised(baseline):
    sizes = quantised_sizes(baseline.model)
    lstms = [m for m in baseline.model.modules() if type(m) is torch.nn.LSTM]
    matrices = [p for m in lstms for n, p in m.named_parameters() if n.startswith("weight")]
    assert matrices
    weights = [w.numel() for w in matrices] + [x.weight.numel() for x in linears(baseline.model)]
    assert sizes.int8_mib * 2**20 == sum(weights) + SCALE_BYTES * len(weights)


@pytest.mark.parametrize("family", ["small", "conformer"])
def test_what_is_on_disk_is_what_torch_saves_and_the_model_stays_as_it_is(
    family, request, tmp_path
):
    if family == "small":
        model = request.getfixturevalue("small").model
    else:
        model = compressed_model(tmp_path, CONFORMER).model
    before = {name: x.clone() for name, x in model.state_dict().items()}
    file = io.BytesIO()
    torch.save(quantise(model).state_dict(), file)
    assert quantised_sizes(model).disk_mib * 2**20 == file.tell()
    after = model.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before.items())


def test_a_quantised_conformer_computes_nearly_the_same(tmp_path):
    model = compressed_model(tmp_path, CONFORMER).model
    features, lengths = torch.randn(1, 60, 20), torch.tensor([60])
    with torch.no_grad():
        exact = model.encoder(features, lengths)[0]
        rough = quantise(model).encoder(features, lengths)[0]
    assert not torch.equal(exact, rough)
    close(rough, exact, 0.2)


# --- stage 20 ---

# It notes its calls, and "decodes" all but quantised models that it is told to fail with.
FAKE_ASR_SH = """\
#!/usr/bin/env bash
set -eu
printf "%s|" "$@" >> calls; echo >> calls
while [ $# -gt 0 ]; do printf -v "${1//-/_}" %s "$2"; shift 2; done
folder=${__asr_exp}/${__inference_tag}
mkdir -p "${folder}/test"
[ ! -f fail_int8 ] || [[ ${__inference_args-} != *quantize* ]] || exit 1
echo "a words" > "${folder}/test/text"
"""
INT8_FOLDER = Path("out/round1/decode_int8")


def stage_20(
    folder: Path, *asr_opts: str, model: str = "decoder: rnn\n"
) -> tuple[list[list[str]], str]:
    """What stage 20 calls asr.sh with, and what it says, with one accepted round."""
    if not (folder / "local").exists():
        shutil.copytree(EGS / "librispeech/asr_shrink/local", folder / "local")
    for path, text in {
        "asr.sh": FAKE_ASR_SH, "path.sh": "", "cmd.sh": "",
        "exp/asr/config.yaml": model, "exp/asr/valid.acc.ave.pth": "base",
        "out/rounds.yaml": "final: 1\n", "out/round1/round.yaml": "status: accepted\n",
        "out/round1/config.yaml": model, "out/round1/valid.acc.ave.pth": "retrained",
        "out/round1/init.pth": "factorised", "raw/test/wav.scp": "a a.wav\n",
    }.items():  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    os.chmod(folder / "asr.sh", 0o755)
    done = subprocess.run(
        ["bash", "local/shrink.sh", "--stage", "20", "--stop_stage", "20", "--asr_exp", "exp/asr",
         "--shrink_exp", "out", "--valid_set", "dev", "--test_sets", "test", "--data_root", "raw",
         "--inference_tag", "decode", "--", "--inference_tag", "decode", *asr_opts],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = (folder / "calls").read_text().splitlines()
    return [line.split("|")[:-1] for line in calls], done.stdout


def last(call: list[str], option: str) -> str:
    return call[len(call) - call[::-1].index(option)]


@pytest.mark.parametrize("given", [[], ["--inference-args", "--penalty 0.1"]])
def test_stage_20_decodes_the_final_model_quantised(tmp_path, given):
    left_out = tmp_path / f"{INT8_FOLDER}_left_out.txt"
    left_out.parent.mkdir(parents=True)
    left_out.write_text("an earlier run could not\n")
    (*others, call), said = stage_20(tmp_path, *given)
    assert len(others) == 3
    assert all("int8" not in " ".join(other) for other in others)
    assert last(call, "--asr_exp") == "out/round1"
    assert last(call, "--inference_tag") == "decode_int8"
    assert last(call, "--inference_asr_model") == "valid.acc.ave.pth"
    assert (last(call, "--stage"), last(call, "--stop_stage")) == ("12", "12")
    own = "".join(f"{arg} " for arg in given[1:])
    assert last(call, "--inference_args").strip() == own + INFERENCE_ARGS
    assert (tmp_path / INT8_FOLDER / "test" / "text").exists()
    assert "No row of the quantised model" not in said and not left_out.exists()


@pytest.mark.parametrize(
    ("given", "model", "why"),
    [
        (["--use_streaming", "true"], "decoder: rnn\n", "asr_inference_streaming cannot quantise"),
        (["--use_maskctc", "true"], "decoder: mlm\n", "asr_inference_maskctc cannot quantise"),
        ([], "decoder: transducer\n", "cannot run a quantised joint network"),
    ],
    ids=["streaming", "maskctc", "transducer"],
)
def test_stage_20_leaves_out_what_espnet_cannot_quantise(tmp_path, given, model, why):
    calls, said = stage_20(tmp_path, *given, model=model)
    assert len(calls) == 3 and all("decode_int8" not in call for call in calls)
    reason = (tmp_path / f"{INT8_FOLDER}_left_out.txt").read_text()
    assert why in reason and f"No row of the quantised model: {reason}" in said
    assert not (tmp_path / INT8_FOLDER).exists()


def test_stage_20_goes_on_without_a_quantised_model_that_cannot_be_decoded(tmp_path):
    (tmp_path / "fail_int8").touch()
    calls, said = stage_20(tmp_path)
    assert len(calls) == 4
    reason = (tmp_path / f"{INT8_FOLDER}_left_out.txt").read_text()
    assert reason == f"it cannot be decoded, see {INT8_FOLDER}_failed\n"
    assert f"No row of the quantised model: {reason}" in said
    assert (tmp_path / f"{INT8_FOLDER}_failed").is_dir() and not (tmp_path / INT8_FOLDER).exists()
    # Mended, it is decoded, and nothing else is.
    (tmp_path / "fail_int8").unlink()
    calls, said = stage_20(tmp_path)
    assert len(calls) == 5 and last(calls[-1], "--inference_tag") == "decode_int8"
    assert not (tmp_path / f"{INT8_FOLDER}_left_out.txt").exists()
