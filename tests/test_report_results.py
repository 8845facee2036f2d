"""results.json: kept whole, and refused when malformed."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from espnet_shrink.errors import ShrinkError
from espnet_shrink.report.documents import results_md
from espnet_shrink.report.results import load, save
from espnet_shrink.report.verdicts import verdict


def measured(params, wer):
    return {
        "params": params,
        "size_mib": params * 4 / 2**20,
        "macs_per_audio_second": 42.0 * params,
        "wer": {"test": wer},
        "cer": {"test": wer / 2},
        "rtf": {"test": 0.05},
        "wer_interval": {"test": [0.8 * wer, 1.2 * wer]},
        "cer_interval": {"test": [0.4 * wer, 0.6 * wer]},
        "exp": f"exp/{params}",
    }


def a_round(number, params, wer, sites, rank):
    return measured(params, wer) | {
        "round": number,
        "status": "accepted",
        "compression": 4_000_000 / params,
        "target_compression": 2.0,
        "search_evaluations": 500,
        "searcher": "reinforce",
        "epochs": 4,
        "dev_wer": 2.2,
        "dev_wer_limit": 3.0,
        "wer_before_retraining": {"test": 3 * wer},
        "ranks": {f"encoder.layer{i}.weight": rank if i else "dense" for i in range(sites)},
        "full_ranks": {f"encoder.layer{i}.weight": 256 for i in range(sites)},
    }


def example(sites=3):
    """A valid results.json of version 1: two rounds accepted, one rolled back between them."""
    rolled_back = a_round(2, 500_000, 9.0, sites, 16) | {"status": "rolled_back"}
    rolled_back |= {key: {} for key in ("wer", "cer", "rtf", "wer_interval", "cer_interval")}
    final = measured(800_000, 2.5) | {"compression": 5.0, "round": 3}
    return {
        "version": 1,
        "seed": 7,
        "corpus": "mini",
        "baseline": measured(4_000_000, 2.43) | {"epochs": 20},
        "control": measured(4_000_000, 2.17) | {"epochs": 28},
        "rounds": [
            a_round(1, 2_000_000, 2.3, sites, 128),
            rolled_back,
            a_round(3, 800_000, 2.5, sites, 32),
        ],
        "final": final,
        "uncompressed": [{"name": "decoder.embed", "reason": "embedding"}],
        "versions": {
            "python": "3.11.2",
            "torch": "2.12.1",
            "espnet": "202511",
            "espnet_shrink": "0.1.0",
        },
        "commands": ["./run.sh --seed 7"],
        "variants": [],
        "metric": "wer",
        "left_out": [],
    }


def a_variant(name, size_mib, wer, sets=("test",)):
    kept = ("wer", "cer", "rtf", "wer_interval", "cer_interval", "exp")
    row = {key: value for key, value in measured(800_000, wer).items() if key in kept}
    for key in kept[:5]:
        row[key] = {name: row[key]["test"] for name in sets}
    return row | {"name": name, "size_mib": size_mib, "memory_mib": 3 * size_mib}


def with_variants():
    forms = [a_variant("int8 (torch)", 1.25, 2.7), a_variant("ONNX, CTC greedy", 2.5, 6.25)]
    return example() | {"variants": forms}


def loaded(tmp_path, data):
    path = tmp_path / "given.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return load(path)


def with_final(results, **changes):
    (size,) = results.sizes
    return replace(results, sizes=[replace(size, final=replace(size.final, **changes))])


def test_results_survive_the_file(tmp_path):
    results = loaded(tmp_path, example())
    save(results, tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text())["version"] == 2
    assert load(tmp_path / "saved.json") == results


def test_results_without_variants_are_read_as_before(tmp_path):
    """They came later than version 1."""
    old = example()
    del old["variants"]
    assert loaded(tmp_path, old) == loaded(tmp_path, example())


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    results = loaded(tmp_path, example())
    save(with_final(results, params=np.int64(800_000), size_mib=np.float32(3.5)),
         tmp_path / "saved.json")  # fmt: skip
    assert load(tmp_path / "saved.json").final.size_mib == 3.5


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    path = tmp_path / "saved.json"
    results = loaded(tmp_path, example())
    save(results, path)
    before = path.read_bytes()
    with pytest.raises(ShrinkError, match="final.size_mib"):
        save(with_final(results, size_mib=float("nan")), path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["given.json", "saved.json"]


def test_control_may_be_absent(tmp_path):
    results = loaded(tmp_path, example() | {"control": None})
    assert "no control" in verdict(results, "test")
    assert "|control|" not in results_md(results)


def put(data, keys, value):
    *path, last = keys
    for key in path:
        data = data[key]
    if value is KeyError:
        del data[last]
    else:
        data[last] = value


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (["version"], 3, "`version` is 3"),
        (["version"], KeyError, "version"),
        (["control"], KeyError, "control"),
        (["baseline", "params"], KeyError, "params"),
        (["baseline", "params"], "many", "baseline.params"),
        (["baseline", "params"], True, "baseline.params"),
        (["baseline", "params"], 1.5, "baseline.params"),
        (["baseline", "wer"], {}, "baseline"),
        (["baseline", "cer"], {"other": 1.0}, "cer"),
        (["control", "epochs"], -1, "control.epochs"),
        (["rounds", 1, "status"], "lost", "rounds[1].status"),
        (["rounds", 0, "ranks", "encoder.layer0.weight"], "sparse", "rounds[0].ranks"),
        (["rounds", 0, "ranks", "encoder.layer1.weight"], 257, "encoder.layer1.weight"),
        (["rounds", 0, "ranks", "encoder.layer1.weight"], 0, "rounds[0].ranks"),
        (["rounds", 0, "full_ranks"], {}, "full_ranks"),
        (["rounds", 2, "wer_interval", "test"], [1.0], "rounds[2].scores[...][...].interval"),
        (["rounds", 2, "wer_interval", "test"], [3.0, 1.0], "`interval` of `wer` of test"),
        (["rounds", 2, "wer"], {}, "rounds[2]"),
        (["final", "round"], 2, "final.round"),
        (["uncompressed", 0, "reason"], KeyError, "reason"),
        (["versions", "torch"], None, "versions.torch"),
        (["commands"], "make", "commands"),
        (["variants"], {}, "variants"),
        (["variants", 0, "memory_mib"], KeyError, "memory_mib"),
        (["variants", 1, "size_mib"], -1, "variants[1].size_mib"),
        (["variants", 1, "cer"], {}, "cer"),
        (["variants", 0, "wer_interval", "test"], [3.0, 1.0], "variants[0]"),
    ],
)
def test_malformed_results_are_one_line_naming_the_key(tmp_path, keys, value, says):
    data = copy.deepcopy(with_variants())
    put(data, keys, value)
    with pytest.raises(ShrinkError) as error:
        loaded(tmp_path, data)
    message = str(error.value)
    assert says in message and "given.json" in message and "\n" not in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": NaN}', None])
def test_files_that_are_not_results_are_one_line(tmp_path, content):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ShrinkError) as error:
        load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
