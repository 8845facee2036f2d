"""Every reader of data files takes the same, as ESPnet reads it, and names what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import arguments, tree
from espnet2.fileio.read_text import read_2columns_text
from test_template_programs import ENVIRONMENT, TEMPLATE

from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.kaldi import read_table
from espnet_shrink.errors import ShrinkError

GOOD = {
    "plain": b"b two\na one\n",
    "no last line end": b"a one\nb two",
    "Windows": b"a one\r\nb two words\r\n",
    "old Mac": b"a one\rb two\r",
    "tabs": b"a\tone\tmore\nb \t two\n",
    "spaces around": b"  a   one  two \n\tb x\t\n",
    "keys alone": b"a\nb \nc\t\r\n",
    "white space that is text": "a 5\u00a0000 km\nb \u4e8c\u3000\u4e09\u2028x\x85y\x1cz\n".encode(),
    "such around a text": "a \u3000one\u00a0\nb \u00a0\n".encode(),
    "such before a key": "\u00a0a one\n".encode(),
    "an accent in a key": "caf\u00e9 one\n".encode(),
}
BAD = {  # content -> what is said of it, and how ESPnet reads it (None: it raises something)
    "blank line": (b"a one\n\nb two\n", "line 2", None),
    "blank last line": (b"a one\n \t \n", "line 2", None),
    "only white space": ("\u3000\n".encode(), "line 1", None),
    "twice": (b"a one\nb two\na one\n", "line 3", None),
    "Latin-1": ("a one\nb ma\u00f1ana\n".encode("latin-1"), "line 2", None),
    "UTF-16": ("a one\n".encode("utf-16"), "line 1", None),
    "UTF-16 without a mark": ("a one\n".encode("utf-16-le"), "NUL", {}),
    "byte order mark": (b"\xef\xbb\xbfa one\n", "line 1", {"\ufeffa": "one"}),
    "no-break space behind a key": ("a\u00a01 one\n".encode(), "U+00A0", {"a": "1 one"}),
    "ideographic space behind a key": ("a\u3000\u4e8c\n".encode(), "U+3000", {"a": "\u4e8c"}),
    "next line behind a key": ("a\x85b one\n".encode(), "U+0085", {"a": "b one"}),
    "nothing": (b"", "is empty", {}),
}
PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from data_dir import read_table
for path in sys.argv[2:]:
    try: print(repr(read_table(Path(path), allow_no_value=True)))
    except SystemExit as end: print(end.code)
"""


def read_by_the_recipe(paths):
    """What data_dir.py, which does without the package, reads: its values, its errors."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, TEMPLATE / "pyscripts", *paths],
        capture_output=True, encoding="utf-8", env=ENVIRONMENT,
    )  # fmt: skip
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_what_is_read_is_what_espnet_reads(tmp_path):
    paths = [tmp_path / name for name in GOOD]
    for path, content in zip(paths, GOOD.values(), strict=True):
        path.write_bytes(content)
    ours, _ = read_by_the_recipe(paths)
    for path, found in zip(paths, ours, strict=True):
        expected = read_2columns_text(path)
        assert read_table(path) == expected, path.name
        assert found == repr(expected), path.name


def test_what_espnet_would_stumble_over_is_refused_by_file_and_line(tmp_path):
    paths = [tmp_path / name for name in BAD]
    for path, (content, _, _) in zip(paths, BAD.values(), strict=True):
        path.write_bytes(content)
    ended, errors = read_by_the_recipe(paths)
    assert ended == ["2"] * len(BAD)
    for path, error, (_, says, espnets) in zip(paths, errors, BAD.values(), strict=True):
        with pytest.raises(ShrinkError) as caught:
            read_table(path)
        for message in (str(caught.value), error):
            assert says in message and str(path) in message and "\n" not in message
        if espnets is None:
            with pytest.raises((ValueError, RuntimeError)):
                read_2columns_text(path)
        elif says != "NUL":
            assert read_2columns_text(path) == espnets


CALLS = {
    "dump/raw/dev/text": ["proxy", "--exp", "exp/asr", "--data", "dump/raw/dev", "--out", "new"],
    "dump/raw/dev/wav.scp": ["search", "--exp", "exp/asr", "--proxy", "dump/raw/test", "--data",
                             "dump/raw/dev", "--target", 1.5, "--out", "new"],
    "dump/raw/dev/utt2spk": ["compress", "exp/asr", "--data", "dump/raw/dev", "--target", 1.5,
                             "--no-retrain", "--out", "new"],
    "dump/raw/test/text": arguments("report"),
    "small/round1/decode/test/text": arguments("report"),
}  # fmt: skip


@pytest.mark.parametrize("path", CALLS)
def test_verbs_refuse_the_same_files_in_one_line(finished, shrink, path):
    lines = Path(path).read_bytes().splitlines(keepends=True)
    second = len(lines[0]) + len(lines[1])
    kinds = {
        "line 2 is blank": b"".join([lines[0], b"\n", *lines[1:]]),
        "line 3: ": b"".join([*lines[:2], lines[0], *lines[2:]]),
        "UTF-8 text at line 3": b"".join([*lines[:2], b"x \xe9\n", *lines[2:]]),
        "byte order mark": b"\xef\xbb\xbf" + b"".join(lines),
        "U+00A0": b"".join(lines)[:second] + lines[2].replace(b" ", b"\xc2\xa0", 1),
    }
    for says, content in kinds.items():
        Path(path).write_bytes(content)
        before = tree(finished)
        ended = shrink(*CALLS[path])
        assert ended.status == 2 and len(ended.err.splitlines()) == 1, (says, ended)
        assert says in ended.err and path in ended.err
        assert tree(finished) == before


def test_line_ends_tabs_and_order_change_nothing(recipe, shrink):
    command = ["proxy", "--exp", "exp/asr", "--data", "dump/raw/dev", "--size", 4]
    assert shrink(*command, "--out", "plain").status == 0
    for name in ("wav.scp", "text", "utt2spk"):
        path = Path("dump/raw/dev") / name
        lines = [line.replace(" ", "\t", 1) for line in path.read_text().splitlines()]
        if name == "text":
            lines.reverse()
        path.write_bytes("".join(f"{line} \r\n" for line in lines).encode())
    assert shrink(*command, "--out", "other").status == 0
    assert read_yaml("plain/proxy.yaml") == read_yaml("other/proxy.yaml")
    assert read_table("plain/wav.scp") == read_table("other/wav.scp")


def test_a_no_break_space_is_a_part_of_its_word_for_search_and_report(finished, shrink):
    from test_report_collect import OUT, load

    before = load(OUT / "results.json")
    for path in ("dump/raw/test/text", *(f"{exp}/decode/test/text" for exp in
                 ("exp/asr", "small/round1", "small/round2", "small/control"))):  # fmt: skip
        lines = Path(path).read_text().splitlines()
        changed = [line.replace(" ", "\u3000").replace("\u3000", " ", 1) for line in lines]
        Path(path).write_text("\n".join(changed) + "\n", encoding="utf-8")
    assert shrink(*arguments("report")).status == 0
    after = load(OUT / "results.json")
    # Every utterance is one word now, and every lost word spoils one.
    count = len(read_table("dump/raw/test/text"))
    assert before.baseline.wer != after.baseline.wer == {"test": pytest.approx(100 / count)}
    assert before.baseline.cer == after.baseline.cer
