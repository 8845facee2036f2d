"""The file of measured times: kept, shared by processes, of one machine and code, mended."""

import multiprocessing
import shutil
from pathlib import Path

import pytest

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank import measured as module
from espnet_shrink.methods.lowrank.latency import LatencyTable
from espnet_shrink.methods.lowrank.measured import Measured, machine
from espnet_shrink.methods.lowrank.site import Site

PROCESSES, TIMES = 4, 12


def test_what_was_measured_is_kept_for_the_next_process(tmp_path):
    assert Measured(tmp_path).get("a", lambda: 1.5) == 1.5
    ranks = {"dense": 2.0, 4: 1.0}
    assert Measured(tmp_path).get("b", lambda: ranks) == ranks
    again = Measured(tmp_path)
    assert again.get("a", lambda: 1 / 0) == 1.5 and again.get("b", lambda: 1 / 0) == ranks


def _write(folder: Path, process: int) -> None:
    kept = Measured(folder)
    for number in range(TIMES):
        kept.get(f"own {process} {number}", lambda: 1.0 + process)
        kept.get(f"shared {number}", lambda: 1.0 + process)


def test_no_time_is_lost_when_several_processes_write(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, n)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = read_yaml(Measured(tmp_path).path)
    assert len(found) == (PROCESSES + 1) * TIMES
    assert all(found[f"own {n} {i}"] == 1.0 + n for n in range(PROCESSES) for i in range(TIMES))


def test_what_another_process_wrote_first_stays(tmp_path):
    late, early = Measured(tmp_path), Measured(tmp_path)
    early.get("a", lambda: 1.0)
    assert late.get("a", lambda: 2.0) == 1.0 == Measured(tmp_path).get("a", lambda: 3.0)


DAMAGED = ["", "a: [1.0", "a: fast", "a: {dense: 1.0, 4: slow}", "a: {4: 1.0}", "a: {dense: 1.0}",
           "a: -1.0", "a: .nan", "- a", "\0", "a: {dense: 1.0, 4: 1.0, sparse: 1.0}"]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_put_aside_with_one_line(content, tmp_path, capfd):
    path = Measured(tmp_path).path
    path.write_text(content)
    kept = Measured(tmp_path)
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and str(path) in err and "damaged" in err
    assert path.with_suffix(".damaged").read_text() == content
    assert kept.get("a", lambda: 1.0) == 1.0 == Measured(tmp_path).get("a", lambda: 1 / 0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "changed", ["layers/kernel.py", "layers/inference.py", "methods/lowrank/timing.py", None]
)
def test_its_name_says_which_code_of_ours_was_timed(changed, tmp_path, monkeypatch):
    before = machine()
    package = tmp_path / "espnet_shrink"
    shutil.copytree(Path(module.__file__).parents[2], package)
    if changed:
        with (package / changed).open("a") as source:
            source.write("\n# faster\n")
    monkeypatch.setattr(module, "__file__", str(package / "methods" / "lowrank" / "measured.py"))
    machine.cache_clear()
    try:
        assert (machine() == before) == (changed is None)
    finally:
        machine.cache_clear()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    table = LatencyTable(tmp_path / "file" / "cache")
    with pytest.raises(ShrinkError, match="cannot keep measured times in .*set XDG_CACHE_HOME"):
        table.curve(Site("site", (8, 8), "linear"), {1: 1.0})
