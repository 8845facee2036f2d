"""The sets that run.sh is told to use are those that data preparation makes."""

from pathlib import Path

import pytest
from conftest import tree
from test_corpus_librispeech import RECIPE, read_scp, write_tone
from test_run_sh import folder, run  # noqa: F401


@pytest.fixture
def corpus(tmp_path):
    """One chapter of each of some parts, in LibriSpeech's layout; one part is the user's own."""
    root = tmp_path / "corpus" / "LibriSpeech"
    for number, part in enumerate(("train-clean-5", "train-other-500", "dev-clean-2", "test-mine")):
        chapter = root / part / f"{number + 10}" / "7"
        name = f"{number + 10}-7"
        write_tone(chapter / f"{name}-0000.flac")
        (chapter / f"{name}.trans.txt").write_text(f"{name}-0000 HELLO WORLD\n")
    return root.parent


def made(data: Path) -> dict[str, list[str]]:
    """Set -> its speakers, of all sets there are."""
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    return {path.name: sorted(set(read_scp(path / "utt2spk").values())) for path in folders}


@pytest.mark.slow
def test_the_sets_are_made_under_their_names_and_others_are_added(corpus, folder):  # noqa: F811
    first = ["--corpus", "librispeech", "--train_set", "train_clean_5 train_other_500",
             "--valid_set", "dev_clean_2", "--test_sets", "dev_clean_2"]  # fmt: skip
    ends = ["--stage", 1, "--stop_stage", 1]
    done = run(folder, *first, *ends, LIBRISPEECH=str(corpus))
    assert done.returncode == 0, done.stderr
    joined = "train_clean_5+train_other_500"
    assert made(folder / "data") == {"dev_clean_2": ["12"], joined: ["10", "11"]}
    before = {name: tree(folder / "data" / name) for name in made(folder / "data")}
    second = ["--corpus", "librispeech", "--train_set", "train_clean_5", "--valid_set",
              "dev-clean-2", "--test_sets", "dev_clean_2 test_mine"]  # fmt: skip
    done = run(folder, *second, *ends, LIBRISPEECH=str(corpus))
    assert done.returncode == 0, done.stderr
    assert made(folder / "data") == {
        "dev-clean-2": ["12"], "dev_clean_2": ["12"], "test_mine": ["13"], "train_clean_5": ["10"],
        joined: ["10", "11"],
    }  # fmt: skip
    assert before == {name: tree(folder / "data" / name) for name in before}
    # Another training set's model is another model.
    (folder / "dump/raw/dev_clean_2").mkdir(parents=True)
    (folder / "dump/raw/dev_clean_2/text").write_text("a b\n")
    done = run(folder, *first, "--stage", 16, "--stop_stage", 16, LIBRISPEECH=str(corpus))
    assert f"exp/asr_librispeech_{joined}_train_asr_rnn_librispeech" in done.stderr


def test_mini_librispeech_has_sets_tokens_and_a_config_of_its_own(corpus, folder):  # noqa: F811
    done = run(folder, "--corpus", "mini_librispeech", "--test_sets", "test_mine", "--stop_stage",
               1, LIBRISPEECH=str(corpus))  # fmt: skip
    assert made(folder / "data") == {
        "dev_clean_2": ["12"], "test_mine": ["13"], "train_clean_5": ["10"],
    }, done.stderr  # fmt: skip
    said = done.stdout
    for words in ("--nbpe 100", "--asr_config conf/train_asr_rnn_mini_librispeech.yaml",
                  "--lang en_mini_librispeech"):  # fmt: skip
        assert words in said
    done = run(folder, "--corpus", "mini_librispeech", "--stage", 16, LIBRISPEECH=str(corpus))
    assert done.returncode == 2 and "corpus mini_librispeech is not prepared" in done.stderr


def test_the_test_set_of_mini_librispeech_is_librispeechs(corpus, folder):  # noqa: F811
    done = run(folder, "--corpus", "mini_librispeech", "--stop_stage", 1, LIBRISPEECH=str(corpus))
    assert done.returncode == 2
    assert f"{corpus}: no folder test-clean there" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("stage", [1, 16])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["librispeech", "--train_set", "train_clean_50"], "'train_clean_50'"),
        (["librispeech", "--train_set", "train_clean_5 train_dirty"], "train_dirty'"),
        (["librispeech", "--valid_set", "dev-dirty"], "'dev-dirty'"),
        (["librispeech", "--test_sets", "test_clean Test_clean"], "'Test_clean'"),
        (["mini_librispeech", "--test_sets", "test_cleen"], "'test_cleen'"),
        (["mini", "--train_set", "train_clean_5"], "'train_clean_5': choose of train_mini, dev_m"),
        (["digits", "--test_sets", "test_mini"], "'test_mini': choose of train_digits, dev_dig"),
    ],
)
def test_a_set_that_the_corpus_does_not_have_is_refused_at_once(folder, arguments, named, stage):  # noqa: F811
    before = tree(folder)
    downloading = ["--local_data_opts", "--download true"]
    done = run(folder, "--corpus", *arguments, *downloading, "--stage", stage, LIBRISPEECH="")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"the {arguments[0]} corpus has no set" in done.stderr and named in done.stderr
    assert tree(folder) == before


def test_a_part_that_is_not_there_is_named_before_any_is_read(corpus, folder):  # noqa: F811
    done = run(folder, "--corpus", "librispeech", "--train_set", "train_clean_5", "--valid_set",
               "dev_clean_2", "--test_sets", "test_other", "--stop_stage", 1,
               LIBRISPEECH=str(corpus))  # fmt: skip
    assert done.returncode == 2
    assert f"{corpus}: no folder test-other there" in done.stderr.splitlines()[-1]
    assert not list((folder / "data").glob("*/wav.scp"))


def test_data_made_by_hand_is_left_alone(corpus, folder):  # noqa: F811
    mine = folder / "data" / "test_by_hand"
    mine.mkdir(parents=True)
    for name in ("wav.scp", "text", "utt2spk"):
        (mine / name).write_text("a b\n")
    before = tree(mine)
    done = run(folder, "--corpus", "librispeech", "--train_set", "train_clean_5", "--valid_set",
               "dev_clean_2", "--test_sets", "test_by_hand", "--stop_stage", 1,
               LIBRISPEECH=str(corpus))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tree(mine) == before and (folder / "data/train_clean_5/text").exists()


def test_every_published_part_can_be_downloaded():
    source = (RECIPE / "local" / "sets.sh").read_text()
    known = " ".join(
        line.split('"')[1] for line in source.splitlines() if '"' in line and "known_sets" in line
        and "clean" in line
    ).split()  # fmt: skip
    published = (RECIPE / "local" / "download_librispeech.py").read_text()
    joined = {"dev", "train_clean_460", "train_960"}
    parts = set(known) - joined
    assert len(parts) == 9 and joined < set(known)
    assert all(f'"{part.replace("_", "-")}": "' in published for part in parts)
