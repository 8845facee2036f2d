"""The small programs of egs2/TEMPLATE/asr1: options, job arrays, markers, RTF."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).resolve().parents[1] / "egs2" / "TEMPLATE" / "asr1"
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run("python3", TEMPLATE / "pyscripts" / name, *arguments)


def jobs(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run(TEMPLATE / "utils" / "run.pl", *arguments)


def parse(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = f"""set -eu
    nj=4 train_set= use_lm=true help_message='All about it.'
    . {TEMPLATE}/utils/parse_options.sh
    echo "nj=$nj train_set=$train_set use_lm=$use_lm rest=$*"
    """
    return run("bash", "-c", script, "script", *arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nj=4 train_set= use_lm=true rest="),
        (["--nj", "8"], "nj=8 train_set= use_lm=true rest="),
        (["--train-set", "a b"], "nj=4 train_set=a b use_lm=true rest="),
        (["--train_set", "", "--use_lm", "false"], "nj=4 train_set= use_lm=false rest="),
        (["--nj", "1", "--nj", "2", "x", "--nj", "3"], "nj=2 train_set= use_lm=true rest=x --nj 3"),
    ],
)
def test_options_set_variables_up_to_the_first_other_word(arguments, expected):
    result = parse(*arguments)
    assert (result.returncode, result.stdout.strip()) == (0, expected)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--njj", "8"], "--njj"),
        (["--nj=8"], "--nj 8"),
        (["--nj"], "--nj needs a value"),
        (["--use_lm", "maybe"], "'maybe'"),
        (["--a;b", "1"], "--a;b"),
    ],
)
def test_a_bad_option_is_one_line_and_status_2(arguments, named):
    result = parse(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert named in result.stderr and result.stderr.count("\n") == 1


def test_help_is_printed_and_ends_well():
    result = parse("--help")
    assert (result.returncode, result.stdout) == (0, "All about it.\n")


def test_jobs_run_each_with_its_number_and_log(tmp_path):
    log = tmp_path / "logs" / "job.N.log"
    result = jobs(
        "--gpu",
        0,
        "--mem",
        "4G",
        "--num-threads",
        2,
        "--name",
        "x",
        "N=2:4",
        log,
        "bash",
        "-c",
        f"echo out N; echo hi >{tmp_path}/N.txt",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["2.txt", "3.txt", "4.txt"]
    assert "out 3" in (tmp_path / "logs" / "job.3.log").read_text()
    assert not (tmp_path / "logs" / "job.1.log").exists()


def test_jobs_run_at_the_same_time(tmp_path):
    # Each job waits for the other's file, so one after the other they would never end.
    wait = f"cd {tmp_path}; touch JOB; until [ -e 1 ] && [ -e 2 ]; do sleep 0.1; done"
    result = jobs(
        "--max_jobs_run", 2, "JOB=1:2", tmp_path / "JOB.log", "timeout", 20, "bash", "-c", wait
    )
    assert result.returncode == 0


def test_a_failed_job_names_its_log_its_last_line_and_gives_its_status(tmp_path):
    result = jobs(
        "JOB=1:3", tmp_path / "JOB.log", "bash", "-c", "echo bad JOB; [ JOB != 2 ] || exit 7"
    )
    assert result.returncode == 7
    assert result.stderr.count("\n") == 1
    assert f"{tmp_path}/2.log" in result.stderr and "bad 2" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--what", "1", "log", "true"],
        ["log"],
        ["JOB=0:2", "log", "true"],
        ["JOB=1:2", "one.log", "true"],
    ],
)
def test_a_bad_job_call_is_one_line_and_status_2(arguments, tmp_path):
    result = run(TEMPLATE / "utils" / "run.pl", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_jobs_die_when_their_runner_is_killed(tmp_path):
    beat = f"while true; do date +%N >{tmp_path}/beat; sleep 0.1; done"
    runner = subprocess.Popen(
        [TEMPLATE / "utils" / "run.pl", tmp_path / "log", "bash", "-c", beat], env=ENVIRONMENT
    )
    deadline = time.time() + 20
    while not (tmp_path / "beat").exists() and time.time() < deadline:
        time.sleep(0.05)
    runner.kill()
    runner.wait()
    time.sleep(0.5)
    before = (tmp_path / "beat").read_text()
    time.sleep(0.5)
    assert (tmp_path / "beat").read_text() == before


def check(folder: Path, command: str = "do it", inputs: str = "in.txt") -> int:
    return run(
        "python3",
        TEMPLATE / "pyscripts" / "once.py",
        "check",
        ".done",
        "--command",
        command,
        "--inputs",
        *inputs.split(),
        "--outputs",
        "out.txt",
        cwd=folder,
    ).returncode


@pytest.fixture
def done(tmp_path):
    """A folder in which a step from in.txt to out.txt has been done and marked."""
    (tmp_path / "in.txt").write_text("in")
    assert check(tmp_path) == 1
    (tmp_path / "out.txt").write_text("out")
    marked = run(
        "python3",
        TEMPLATE / "pyscripts" / "once.py",
        "mark",
        ".done",
        "--outputs",
        "out.txt",
        cwd=tmp_path,
    )
    assert marked.returncode == 0
    return tmp_path


def test_a_marked_step_is_done_even_if_its_input_is_only_touched(done):
    os.utime(done / "in.txt", (1, 1))
    assert check(done) == 0
    assert check(done) == 0


@pytest.mark.parametrize("change", ["command", "input", "output", "no output", "truncated marker"])
def test_a_step_is_done_again_when_something_changed(done, change):
    if change == "input":
        (done / "in.txt").write_text("IN")
    elif change == "output":
        (done / "out.txt").write_text("OUT")
    elif change == "no output":
        (done / "out.txt").unlink()
    elif change == "truncated marker":
        marker = done / ".done"
        marker.write_text(marker.read_text()[:-9])
    assert check(done, command="do that" if change == "command" else "do it") == 1
    assert not (done / ".done").exists()


def test_a_missing_input_is_named(done):
    result = run(
        "python3",
        TEMPLATE / "pyscripts" / "once.py",
        "check",
        ".done",
        "--inputs",
        "no.txt",
        cwd=done,
    )
    assert result.returncode == 2
    assert "no.txt" in result.stderr and result.stderr.count("\n") == 1
    assert (done / ".done").exists()


def test_audio_that_was_written_anew_is_a_changed_input(done):
    (done / "a.wav").write_bytes(b"RIFF")
    (done / "wav.scp").write_text("a a.wav\n")
    script = TEMPLATE / "pyscripts" / "once.py"
    words = ["--inputs", "audio:wav.scp"]
    assert run("python3", script, "check", ".audio", *words, cwd=done).returncode == 1
    assert run("python3", script, "mark", ".audio", cwd=done).returncode == 0
    assert run("python3", script, "check", ".audio", *words, cwd=done).returncode == 0
    os.utime(done / "a.wav", (1, 1))
    assert run("python3", script, "check", ".audio", *words, cwd=done).returncode == 1


def test_a_finished_job_is_not_run_again_but_a_failed_one_is(tmp_path):
    job = [TEMPLATE / "utils" / "once.sh", "out", "log"]
    count = ["bash", "-c", "echo run >>runs; [ -e good ]"]
    assert run(*job, *count, cwd=tmp_path).returncode == 1
    (tmp_path / "good").touch()
    assert run(*job, *count, cwd=tmp_path).returncode == 0
    assert run(*job, *count, cwd=tmp_path).returncode == 0
    assert (tmp_path / "runs").read_text() == "run\nrun\n"


LOG = """\
2024-01-02 10:00:00,000 (asr_inference:1) INFO: speech length: 16000
2024-01-02 10:00:00,500 (asr_inference:2) INFO: best hypo: a
2024-01-02 10:00:09,000 (asr_inference:1) INFO: speech length: 48000
2024-01-02 10:00:10,500 (asr_inference:2) INFO: best hypo: b
"""


def test_rtf_is_decoding_time_over_audio_time(tmp_path):
    (tmp_path / "asr_inference.1.log").write_text(LOG)
    (tmp_path / "asr_inference.2.log").write_text("# nothing here\n")
    result = program("calculate_rtf.py", "--fs", 16000, tmp_path)
    assert result.stdout.splitlines() == [
        "Total audio duration: 4.000 [sec]",
        "Total decoding time: 2.000 [sec]",
        "RTF: 0.500",
        "Latency: 1000.000 [ms/sentence]",
    ]


def test_rtf_leaves_out_utterances_that_are_too_short_to_be_decoded(tmp_path):
    short = """\
2024-01-02 10:00:05,000 (asr_inference:1) INFO: speech length: 40
2024-01-02 10:00:05,100 (asr_inference:3) WARNING: Utterance ['c'] has 1 frames and is too short
"""
    (tmp_path / "asr_inference.1.log").write_text(
        LOG[: len(LOG) // 2] + short + LOG[len(LOG) // 2 :]
    )
    result = program("calculate_rtf.py", "--fs", 16000, tmp_path)
    assert result.stdout.splitlines()[2] == "RTF: 0.500"


def test_rtf_of_a_log_that_breaks_off_is_refused(tmp_path):
    (tmp_path / "asr_inference.1.log").write_text(LOG.rsplit("2024", 1)[0])
    result = program("calculate_rtf.py", "--fs", 16000, tmp_path)
    assert result.returncode == 2
    assert "asr_inference.1.log" in result.stderr


def test_each_finished_epoch_of_a_training_log_is_one_line(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(
        "[a] 2024 (trainer:336) INFO: 1/2epoch started\n"
        "[a] 2024 (trainer:384) INFO: 1epoch results: [train] iter_time=0.1, loss=3.5, acc=0.4,"
        " time=2 seconds, total_count=5, [valid] loss=3.0, acc=0.5, cer_ctc=0.7"
        ", [att_plot] time=1\n"
        "[a] 2024 (trainer:325) INFO: 2/2epoch started. Estimated time to finish: 9 seconds\n"
        "[a] 2024 (trainer:384) INFO: 2epoch results: [train] loss=2.5, [valid] loss=2.0\n"
    )
    follower = subprocess.Popen(
        ["python3", TEMPLATE / "pyscripts" / "progress.py", "train", log],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    first = follower.stdout.readline()
    second = follower.stdout.readline()
    follower.terminate()
    assert follower.communicate(timeout=10)[0] == ""
    assert first == (
        "epoch 1/2: train loss 3.5, acc 0.4, time 2 seconds;"
        " valid loss 3.0, acc 0.5, cer_ctc 0.7, 9 seconds left\n"
    )
    assert second == "epoch 2/2: train loss 2.5; valid loss 2.0\n"


def begin_training(folder: Path, config: str, arguments: str = "--max_epoch 2") -> str:
    (folder / "conf.yaml").write_text(config)
    script = f"""set -euo pipefail
    ln -sfn {TEMPLATE}/pyscripts pyscripts
    . {TEMPLATE}/scripts/asr/steps.sh; . {TEMPLATE}/scripts/asr/train.sh
    begin_training exp conf.yaml "{arguments}" data.txt
    """
    result = run("bash", "-c", script, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("change", ["arguments", "configuration", "data", "killed"])
def test_a_training_resumes_only_one_with_the_same_options_and_data(tmp_path, change):
    (tmp_path / "data.txt").write_text("data")
    begin_training(tmp_path, "lr: 1\nmax_epoch: 2\n")
    checkpoint = tmp_path / "exp" / "checkpoint.pth"
    checkpoint.write_text("first")
    # More epochs are the same training.
    assert begin_training(tmp_path, "lr: 1\nmax_epoch: 5\n", "--max_epoch 9") == ""
    assert checkpoint.exists()

    if change == "data":
        (tmp_path / "data.txt").write_text("other data")
    elif change == "killed":
        # ... between the look at the marker and the move.
        (tmp_path / "exp" / ".started").rename(tmp_path / "exp" / ".started.pending")
    said = begin_training(
        tmp_path,
        "lr: 2\n" if change == "configuration" else "lr: 1\n",
        "--lr 3" if change == "arguments" else "",
    )
    assert "exp.old1" in said
    assert not checkpoint.exists()
    assert (tmp_path / "exp.old1" / "checkpoint.pth").read_text() == "first"


def test_a_training_from_elsewhere_is_resumed(tmp_path):
    (tmp_path / "data.txt").write_text("data")
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "checkpoint.pth").write_text("theirs")
    assert begin_training(tmp_path, "lr: 1\n") == ""
    assert (tmp_path / "exp" / "checkpoint.pth").exists()
