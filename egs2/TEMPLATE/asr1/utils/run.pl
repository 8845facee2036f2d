#!/usr/bin/env python3
"""Run one command, or an array of them in parallel, on this machine, each with a log of its own.

    run.pl [options] [JOB=1:4] LOG COMMAND...

In LOG and COMMAND the word before "=" stands for the number of the job. At most as many jobs run
at a time as there are processors (--max_jobs_run N changes that). The other options are those of
cluster backends: accepted, of no effect. A failure is one line with the log's name and last line,
and the exit status is that of the failed job. The name is Kaldi's; this is a Python program.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

IGNORED = {"gpu", "mem", "num_threads", "name", "time", "config"}


def stop(message: str, status: int = 2) -> None:
    print(f"run.pl: {message}", file=sys.stderr)
    raise SystemExit(status)


def parse(args: list[str]) -> tuple[int, str, range, list[str]]:
    """Return (jobs at a time, array word or "", job numbers, LOG + COMMAND)."""
    at_a_time = len(os.sched_getaffinity(0))
    array, numbers = "", range(1, 2)
    while args:
        if args[0].startswith("--"):
            name = args[0].lstrip("-").replace("-", "_")
            if name not in IGNORED | {"max_jobs_run"}:
                stop(f"Error: unknown option {args[0]}")
            if len(args) < 2:
                stop(f"Error: option {args[0]} needs a value")
            if name == "max_jobs_run":
                at_a_time = int(args[1])
            args = args[2:]
        elif match := re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", args[0]):
            first, last = int(match[2]), int(match[3] or match[2])
            if not 1 <= first <= last:
                stop(f"Error: {args[0]} is no range of job numbers from 1 up")
            array, numbers = match[1], range(first, last + 1)
            args = args[1:]
        else:
            break
    if len(args) < 2:
        stop("Error: usage: run.pl [options] [JOB=1:N] LOG COMMAND...")
    if array and len(numbers) > 1 and array not in args[0]:
        stop(f"Error: {len(numbers)} jobs would share the log {args[0]}: put {array} into its name")
    return max(1, at_a_time), array, numbers, args


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line and line[0] != "#"), "no output")


def main() -> None:
    at_a_time, array, numbers, args = parse(sys.argv[1:])
    # A job must not outlive us: an orphan would write into the folder of the run that follows.
    tie = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    waiting = list(numbers)
    running: dict[int, tuple[subprocess.Popen[bytes], Path, float]] = {}
    failed: list[tuple[int, Path]] = []

    def kill_all(signum: int, frame: object) -> None:
        for process, _, _ in running.values():
            process.terminate()
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, kill_all)
    signal.signal(signal.SIGINT, kill_all)

    while running or (waiting and not failed):
        while waiting and not failed and len(running) < at_a_time:
            number = waiting.pop(0)
            words = [word.replace(array, str(number)) if array else word for word in args]
            log, command = Path(words[0]), words[1:]
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as handle:
                handle.write(f"# {shlex.join(command)}\n# Started at {time.ctime()}\n".encode())
                handle.flush()
                try:
                    process = subprocess.Popen(
                        [*tie, *command], stdin=subprocess.DEVNULL, stdout=handle, stderr=handle
                    )
                except OSError as error:
                    stop(f"Error: cannot run {command[0]}: {error.strerror}", 127)
            running[process.pid] = process, log, time.time()
        pid, status = os.wait()
        if pid not in running:
            continue
        process, log, started = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code
        if code:
            failed.append((code if code > 0 else 128 - code, log))
        ended = f"# Ended (code {code}) at {time.ctime()}, elapsed {time.time() - started:.0f} s\n"
        with log.open("ab") as handle:
            handle.write(ended.encode())

    if failed:
        code, log = failed[0]
        counted = f"{len(failed)} of {len(numbers)} jobs" if len(numbers) > 1 else "the job"
        stop(f"{counted} failed (status {code}): {last_line(log)} (log: {log})", code)


if __name__ == "__main__":
    main()
