"""egs2/TEMPLATE/asr1 on data: formatting, speeds, bad folders, scoring, stages 1-4, kill -9."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_template_programs import ENVIRONMENT, TEMPLATE, program, run


def tone(path: Path, seconds: float = 0.5, rate: int = 8000, hertz: float = 440.0) -> np.ndarray:
    samples = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return samples


def write(folder: Path, **tables: dict[str, str]) -> None:
    """Write wav_scp={...} as the table wav.scp, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        text = "".join(f"{key} {value}\n" for key, value in table.items())
        (folder / name.replace("_", ".")).write_text(text)


def read(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def format_audio(folder: Path, *options: object) -> dict[str, str]:
    """Run format_wav_scp.py on folder/wav.scp into folder/out and return its wav.scp."""
    result = program(
        "format_wav_scp.py",
        "--fs",
        8000,
        "--audio-format",
        "flac",
        "--keys",
        folder / "keys",
        *options,
        folder / "wav.scp",
        folder / "out",
    )
    assert result.returncode == 0, result.stderr
    return read(folder / "out" / "wav.scp")


def test_audio_is_converted_and_resampled_and_keeps_its_samples(tmp_path):
    samples = tone(tmp_path / "same.wav")
    tone(tmp_path / "high.wav", rate=16000)
    tone(tmp_path / "right.flac")
    scp = {key: f"{tmp_path}/{key}" for key in ("same.wav", "high.wav", "right.flac")}
    scp["pipe"] = f"cat {tmp_path}/same.wav |"
    write(tmp_path, wav_scp=scp, keys=scp)
    paths = format_audio(tmp_path)
    assert paths["right.flac"] == f"{tmp_path}/right.flac"  # nothing to do, so nothing done
    for key in ("same.wav", "high.wav", "pipe"):
        made, rate = soundfile.read(paths[key])
        assert (soundfile.info(paths[key]).format, rate, len(made)) == ("FLAC", 8000, 4000)
        # Resampling rings at the ends.
        np.testing.assert_allclose(made[200:-200], samples[200:-200], atol=1e-3)
    assert read(tmp_path / "out" / "utt2num_samples") == {key: "4000" for key in scp}


def test_segments_are_cut_out_of_recordings(tmp_path):
    samples = tone(tmp_path / "r.wav", seconds=2)
    segments = {"a": "r 0.5 1.0", "b": "r 1.0 -1"}
    write(tmp_path, wav_scp={"r": f"{tmp_path}/r.wav"}, segments=segments, keys=segments)
    paths = format_audio(tmp_path, "--segments", tmp_path / "segments")
    np.testing.assert_allclose(soundfile.read(paths["a"])[0], samples[4000:8000], atol=1e-4)
    np.testing.assert_allclose(soundfile.read(paths["b"])[0], samples[8000:], atol=1e-4)


def test_slower_speech_is_longer_and_lower(tmp_path):
    tone(tmp_path / "a.wav", seconds=0.9, hertz=400)
    write(tmp_path, wav_scp={"a": f"{tmp_path}/a.wav"}, keys={"a": "x"}, utt2speed={"a": "0.9"})
    made, _ = soundfile.read(format_audio(tmp_path, "--utt2speed", tmp_path / "utt2speed")["a"])
    assert len(made) == 8000
    assert np.argmax(np.abs(np.fft.rfft(made))) == 360  # bins of 1 Hz


def test_speed_perturbation_makes_named_copies(tmp_path):
    tone(tmp_path / "u.wav")
    write(
        tmp_path / "train",
        wav_scp={"u": f"{tmp_path}/u.wav"},
        text={"u": "hello"},
        utt2spk={"u": "s"},
    )
    assert (
        program("perturb_speed.py", tmp_path / "train", tmp_path / "sp", 0.9, "1.0").returncode == 0
    )
    assert read(tmp_path / "sp" / "text") == {"u": "hello", "sp0.9-u": "hello"}
    assert read(tmp_path / "sp" / "spk2utt") == {"s": "u", "sp0.9-s": "sp0.9-u"}
    assert read(tmp_path / "sp" / "utt2speed") == {"u": "1.0", "sp0.9-u": "0.9"}


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("wav.scp", "", "wav.scp is empty"),
        ("wav.scp", None, "no such file"),
        ("wav.scp", "a {0}/a.wav\nb {0}/gone.wav\n", "gone.wav"),
        ("wav.scp", "a {0}/a.wav\n", "lacks b"),
        ("wav.scp", "a {0}/a.wav\nb\n", "nothing after b"),
        ("wav.scp", "a {0}/a.wav\na {0}/a.wav\nb {0}/a.wav\n", "a is there twice"),
        ("text", "a hello\n", "text lacks b"),
        ("text", "a hello\nb you\nc too\n", "lacks c"),
        ("text", "a\nb\n", "no words"),
        ("utt2spk", "b s\n", "utt2spk lacks a"),
        ("segments", "a r 0 1\nb r 1 2\n", "lacks r"),
        ("segments", "a a 0 1\nb b 2 1\n", "b ends at 1 s"),
        ("segments", "a a 0\nb b 0 1\n", "START END"),
    ],
)
def test_a_bad_data_folder_is_one_line_that_names_file_and_utterance(
    tmp_path, name, content, named
):
    tone(tmp_path / "a.wav")
    audio = f"{tmp_path}/a.wav"
    write(
        tmp_path / "d",
        wav_scp={"a": audio, "b": audio},
        text={"a": "x", "b": ""},
        utt2spk={"a": "s", "b": "s"},
    )
    assert program("data_dir.py", "check", tmp_path / "d").returncode == 0
    if content is None:
        (tmp_path / "d" / name).unlink()
    else:
        (tmp_path / "d" / name).write_text(content.format(tmp_path))
    result = program("data_dir.py", "check", tmp_path / "d")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert named in result.stderr and f"{tmp_path}/d/{name}" in result.stderr


@pytest.mark.parametrize("options", [[], ["--keep"]])
def test_audio_that_cannot_be_used_is_named(tmp_path, options):
    tone(tmp_path / "good.wav")
    tone(tmp_path / "fast.wav", rate=16000)
    (tmp_path / "bad.wav").write_text("no audio at all")
    bad = "fast.wav" if options else "bad.wav"
    scp = {"good": f"{tmp_path}/good.wav", "worse": f"{tmp_path}/{bad}"}
    write(tmp_path, wav_scp=scp, keys=scp)
    result = program(
        "format_wav_scp.py",
        "--fs",
        8000,
        "--audio-format",
        "flac",
        "--keys",
        tmp_path / "keys",
        *options,
        tmp_path / "wav.scp",
        tmp_path / "out",
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "worse" in result.stderr and bad in result.stderr
    assert not (tmp_path / "out" / "wav.scp").exists()


def test_scoring_counts_words_and_characters_of_all_utterances(tmp_path):
    write(
        tmp_path,
        utt2spk={"u1": "s1", "u2": "s1", "u3": "s2", "u4": "s2"},
        ref={"u1": "a b c", "u2": "d e", "u3": "f", "u4": ""},
        hyp={"u1": "a x c", "u2": "d", "u3": "f", "u4": "g h"},
    )
    result = program(
        "score.py",
        "--ref",
        tmp_path / "ref",
        "--hyp",
        tmp_path / "hyp",
        "--utt2spk",
        tmp_path / "utt2spk",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "score_wer" / "result.txt").read_text()
    sums = [line.replace("|", " ").split() for line in text.splitlines() if "| Sum" in line]
    # 6 words: 4 right, 1 substituted, 1 deleted, and 2 inserted; 3 of 4 sentences are wrong.
    assert sums[0] == ["Sum/Avg", "4", "6", "66.7", "16.7", "16.7", "33.3", "66.7", "75.0"]
    assert sums[1] == ["Sum", "4", "6", "4", "1", "1", "2", "4", "3"]
    assert "REF:  d e\nHYP:  d *\nEval:   D" in text
    assert (
        (tmp_path / "score_cer" / "ref.trn")
        .read_text()
        .startswith("a <space> b <space> c\t(s1-u1)")
    )

    exp = tmp_path / "exp"
    shutil.copytree(tmp_path / "score_wer", exp / "tag" / "test" / "score_wer")
    markdown = program("results.py", exp).stdout
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in markdown
    assert "|tag/test|4|6|66.7|16.7|16.7|33.3|66.7|75.0|" in markdown


def test_scoring_refuses_missing_hypotheses(tmp_path):
    write(tmp_path, utt2spk={"u1": "s"}, ref={"u1": "a", "u2": "b"}, hyp={"u1": "a"})
    result = program(
        "score.py",
        "--ref",
        tmp_path / "ref",
        "--hyp",
        tmp_path / "hyp",
        "--utt2spk",
        tmp_path / "utt2spk",
        tmp_path,
    )
    assert result.returncode == 2
    assert "lacks u2" in result.stderr and result.stderr.count("\n") == 1


PREPARE = """#!/bin/sh
echo prepared >>prepared
mkdir -p data && cp -r source/* data/
"""


@pytest.fixture
def recipe(tmp_path):
    """A recipe with three small sets, linked to the template as recipes are."""
    folder = tmp_path / "asr1"
    for number, name in enumerate(("train", "dev", "test")):
        ids = [f"s-{name}{i}" for i in range(12 if name == "train" else 2)]
        for i, key in enumerate(ids):
            tone(folder / "wav" / f"{key}.wav", seconds=0.3 + 0.1 * i, hertz=200 + 50 * number)
        write(
            folder / "source" / name,
            wav_scp={key: f"wav/{key}.wav" for key in ids},
            text={key: "a b" if i else "" for i, key in enumerate(ids)},
            utt2spk={key: "s" for key in ids},
        )
    (folder / "local").mkdir()
    (folder / "local" / "data.sh").write_text(PREPARE)
    (folder / "local" / "data.sh").chmod(0o755)
    for name in ("asr.sh", "path.sh", "utils", "pyscripts", "scripts"):
        (folder / name).symlink_to(TEMPLATE / name)
    shutil.copy(TEMPLATE / "cmd.sh", folder)
    return folder


def command(*options: object) -> list[str]:
    words = [
        "./asr.sh",
        "--nj",
        2,
        "--fs",
        "8k",
        "--token_type",
        "char",
        "--train_set",
        "train",
        "--valid_set",
        "dev",
        "--test_sets",
        "test",
        "--stop_stage",
        4,
        *options,
    ]
    return [str(word) for word in words]


def contents(recipe: Path) -> dict[str, bytes]:
    """Return all that stages 1-4 make; not markers, logs and locks."""
    return {
        str(path.relative_to(recipe)): path.read_bytes()
        for top in ("data", "dump")
        for path in (recipe / top).rglob("*")
        if path.is_file() and not path.name.startswith(".") and "logs" not in path.parts
    }


def test_data_stages_make_espnets_folders_and_do_nothing_twice(recipe):
    first = run(*command("--max_wav_duration", 1.3), cwd=recipe)
    assert first.returncode == 0, first.stderr
    made = contents(recipe)
    for folder in ("org/train", "org/dev", "train", "dev", "test"):
        for name in ("wav.scp", "text", "utt2spk", "spk2utt", "utt2num_samples", "feats_type"):
            assert f"dump/raw/{folder}/{name}" in made
    # 12 utterances of 0.3, 0.4, ... 1.4 s, the first without words.
    assert "left out 3 of 12 utterances" in first.stdout
    assert len(read(recipe / "dump/raw/train/wav.scp")) == 9
    assert len(made["dump/raw/lm_train.txt"].splitlines()) == 11
    times = {path: (recipe / path).stat().st_mtime_ns for path in made}

    second = run(*command("--max_wav_duration", 1.3), cwd=recipe)
    assert second.returncode == 0
    assert second.stdout.count("already done") == 7
    assert {path: (recipe / path).stat().st_mtime_ns for path in contents(recipe)} == times
    assert (recipe / "prepared").read_text() == "prepared\n"

    third = run(*command("--max_wav_duration", 20), cwd=recipe)
    assert third.stdout.count("already done") == 5  # all but stage 4's two filters
    assert len(read(recipe / "dump/raw/train/wav.scp")) == 11


def test_a_run_killed_while_formatting_is_finished_by_the_next(recipe, tmp_path):
    assert run(*command("--stop_stage", 1), cwd=recipe).returncode == 0
    shutil.copytree(recipe, tmp_path / "other", symlinks=True)
    whole = run(*command(), cwd=tmp_path / "other")
    assert whole.returncode == 0, whole.stderr
    expected = contents(tmp_path / "other")

    for patience_s in (0.0, 0.3):
        shutil.rmtree(recipe / "dump", ignore_errors=True)
        running = subprocess.Popen(
            command(), cwd=recipe, env=ENVIRONMENT, stdout=subprocess.DEVNULL
        )
        audio = recipe / "dump/raw/org/train/data"
        while not any(audio.rglob("*.flac")) and running.poll() is None:
            time.sleep(0.002)
        time.sleep(patience_s)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        next_run = run(*command(), cwd=recipe)
        assert next_run.returncode == 0, next_run.stderr
        assert contents(recipe) == expected


def test_a_second_run_in_the_same_folder_is_refused_while_one_is_at_work(recipe):
    (recipe / "local" / "data.sh").write_text("#!/bin/sh\ntouch started\nsleep 60\n")
    running = subprocess.Popen(command(), cwd=recipe, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        while not (recipe / "started").exists() and running.poll() is None:
            time.sleep(0.02)
        second = run(*command(), cwd=recipe)
    finally:
        running.kill()
        running.wait()
    assert second.returncode == 2
    assert "in use by another run" in second.stderr and second.stderr.count("\n") == 1


def test_bad_data_stops_before_anything_is_formatted(recipe):
    (recipe / "wav" / "s-dev1.wav").unlink()
    result = run(*command(), cwd=recipe)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "s-dev1" in result.stderr and "data/dev/wav.scp" in result.stderr
    assert not (recipe / "dump").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--no_such_option", "1"],
        ["--use_k2", "true"],
        ["--use_ngram", "true"],
        ["--feats_type", "fbank_pitch"],
        ["--audio_format", "flac.ark"],
        ["--num_ref", "2"],
        ["--token_type", "hugging_face"],
        ["--asr_config", "no.yaml"],
        ["--nj", "many"],
        ["--fs", "fast"],
        ["--valid_set", "train"],
        ["--test_sets", ""],
        ["word"],
    ],
)
def test_options_that_cannot_be_met_are_one_line_and_status_2(recipe, options):
    result = run(*command(*options), cwd=recipe)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert not (recipe / "data").exists()


def test_names_are_those_of_espnet(tmp_path):
    script = f"""set -eu
    ln -s {TEMPLATE}/pyscripts pyscripts; mkdir conf; touch conf/a.yaml conf/d.v2.yaml
    . {TEMPLATE}/scripts/asr/steps.sh; . {TEMPLATE}/scripts/asr/options.sh
    . {TEMPLATE}/utils/parse_options.sh
    . {TEMPLATE}/scripts/asr/checks.sh; . {TEMPLATE}/scripts/asr/names.sh
    echo "$token_list $asr_exp $asr_stats_dir $lm_exp $inference_tag $packed_model"
    """
    options = [
        "--train_set",
        "t",
        "--valid_set",
        "v",
        "--test_sets",
        "x",
        "--lang",
        "en",
        "--nbpe",
        "500",
        "--asr_config",
        "conf/a.yaml",
        "--asr_args",
        "--max_epoch 9",
        "--inference_config",
        "conf/d.v2.yaml",
        "--inference_args",
        "--beam_size 5",
        "--speed_perturb_factors",
        "0.9 1.0",
    ]
    result = run("bash", "-c", script, "asr.sh", *options, cwd=tmp_path)
    assert result.stdout.split() == [
        "data/en_token_list/bpe_unigram500/tokens.txt",
        "exp/asr_a_raw_en_bpe500_max_epoch9_sp",
        "exp/asr_stats_raw_en_bpe500_sp",
        "exp/lm_train_en_bpe500",
        "d.v2_beam_size5_lm_lm_train_en_bpe500_valid.loss.ave_asr_model_valid.acc.ave",
        "exp/asr_a_raw_en_bpe500_max_epoch9_sp/asr_a_raw_en_bpe500_max_epoch9_sp_valid.acc.ave.zip",
    ]


def test_help_names_every_option(recipe):
    result = run("./asr.sh", "--help", cwd=recipe)
    assert result.returncode == 0
    options = re.findall(r"^([a-z]\w*)=", (TEMPLATE / "scripts/asr/options.sh").read_text(), re.M)
    assert len(options) > 90
    assert all(f"--{option} " in result.stdout for option in options)
