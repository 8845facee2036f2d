"""Data folders, good and bad."""

import re

import numpy as np
import pytest
import soundfile

from espnet_shrink.data.kaldi import (
    Utterance,
    read_audio,
    read_folder,
    read_table,
    write_folder,
)
from espnet_shrink.errors import ShrinkError

RATE_HZ = 16000


def samples(count=1600, channels=1):
    wave = np.sin(np.arange(count * channels) / 20.0).astype(np.float32) / 2
    return wave if channels == 1 else wave.reshape(count, channels)


@pytest.fixture
def data(tmp_path):
    """A folder of three utterances."""
    folder = tmp_path / "dev"
    folder.mkdir()
    lines = {"wav.scp": "", "text": "", "utt2spk": ""}
    for name in ("s1-a", "s1-b", "s2-a"):
        audio = tmp_path / f"{name} x.wav"  # a path may hold a space
        soundfile.write(audio, samples(), RATE_HZ)
        lines["wav.scp"] += f"{name} {audio}\n"
        lines["text"] += f"{name} ONE TWO\n"
        lines["utt2spk"] += f"{name} {name[:2]}\n"
    for name, content in lines.items():
        (folder / name).write_text(content)
    return folder


def edit(path, pattern, new):
    text = path.read_text()
    changed = re.sub(pattern, new, text, flags=re.MULTILINE)
    assert changed != text
    path.write_text(changed)


def message_of(call, *args):
    with pytest.raises(ShrinkError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_good_folder_is_read_in_its_order(data):
    read = read_folder(data)
    assert [u.name for u in read] == ["s1-a", "s1-b", "s2-a"]
    assert read[2] == Utterance("s2-a", str(data.parent / "s2-a x.wav"), "ONE TWO", "s2")
    assert np.allclose(read_audio(read[0], RATE_HZ), samples(), atol=1e-4)
    assert read_audio(read[0], RATE_HZ).dtype == np.float32


def test_a_written_folder_reads_the_same_and_is_sorted(data, tmp_path):
    utterances = read_folder(data)
    write_folder(tmp_path / "out", reversed(utterances))
    assert read_folder(tmp_path / "out") == utterances
    assert (tmp_path / "out" / "spk2utt").read_text() == "s1 s1-a s1-b\ns2 s2-a\n"


def test_without_utt2spk_everyone_speaks_once(data):
    (data / "utt2spk").unlink()
    assert [u.speaker for u in read_folder(data)] == ["s1-a", "s1-b", "s2-a"]


def test_tabs_part_and_unicode_line_ends_do_not(data):
    edit(data / "text", r"^s1-b .*$", "s1-b\tEIN\u2028WORT \u0085 MEHR  ")
    assert read_folder(data)[1].text == "EIN\u2028WORT \u0085 MEHR"


def test_a_missing_folder_is_named(data):
    assert f"no such data folder: {data}x" in message_of(read_folder, f"{data}x")
    assert "no such data folder" in message_of(read_folder, data / "text")


@pytest.mark.parametrize("name", ["wav.scp", "text"])
def test_a_missing_file_is_named(data, name):
    (data / name).unlink()
    assert f"no such file: {data / name}" in message_of(read_folder, data)


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk"])
def test_an_empty_file_is_named(data, name):
    (data / name).write_text("")
    assert f"{data / name} is empty" in message_of(read_folder, data)


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk"])
def test_a_file_that_is_not_utf8_is_named(data, name):
    (data / name).write_bytes(b"s1-a \xff\xfe\n")
    assert f"{data / name} is not UTF-8" in message_of(read_folder, data)


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk"])
def test_an_utterance_in_one_file_only_is_named_with_both_files(data, name):
    edit(data / name, "^s1-b .*\n", "")
    other = "text" if name == "wav.scp" else "wav.scp"
    message = message_of(read_folder, data)
    assert f"s1-b is in {other} but not in {name}" in message and str(data) in message


@pytest.mark.parametrize("name", ["text", "utt2spk"])
def test_a_line_without_audio_is_named(data, name):
    with (data / name).open("a") as handle:
        handle.write("s3-a X\n")
    assert f"s3-a is in {name} but not in wav.scp (1 such)" in message_of(read_folder, data)


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk"])
def test_a_key_twice_is_named_with_its_file(data, name):
    edit(data / name, "^(s1-b .*)\n", r"\1\n\1\n")
    assert f"{data / name}, line 3: s1-b is there twice" in message_of(read_folder, data)
    assert "twice" in message_of(read_table, data / name)


@pytest.mark.parametrize("text", ["", " ", " \t "])
def test_an_empty_text_is_named_with_its_utterance(data, text):
    edit(data / "text", "^s1-b .*$", f"s1-b{text}")
    message = message_of(read_folder, data)
    assert f"{data}/text: s1-b has no text" in message


def test_missing_audio_is_named_with_its_utterance(data):
    path = data.parent / "s1-b x.wav"
    path.unlink()
    assert f"wav.scp: audio of s1-b is missing: {path}" in message_of(read_folder, data)


def test_a_pipe_is_refused_with_its_utterance(data):
    edit(data / "wav.scp", "^s1-b .*$", "s1-b sox a.wav -t wav - |")
    assert "wav.scp: s1-b is a pipe" in message_of(read_folder, data)


def test_segments_are_refused(data):
    (data / "segments").write_text("s1-a rec 0 1\n")
    assert f"{data} has segments" in message_of(read_folder, data)


def bad_audio(path, kind):
    if kind == "wrong rate":
        soundfile.write(path, samples(), 8000)
    elif kind == "stereo":
        soundfile.write(path, samples(channels=2), RATE_HZ)
    elif kind == "no samples":
        soundfile.write(path, samples(0), RATE_HZ)
    elif kind == "text":
        path.write_text("not audio")
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind == "only a header":
        path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("wrong rate", "is sampled at 8000 Hz, the model wants 16000 Hz"),
        ("stereo", "has several channels"),
        ("no samples", "holds no samples"),
        ("text", "as audio"),
        ("empty file", "as audio"),
        ("only a header", "as audio"),
    ],
)
def test_bad_audio_is_named_with_its_utterance(data, kind, says):
    utterance = read_folder(data)[1]
    path = data.parent / "s1-b x.wav"
    bad_audio(path, kind)
    message = message_of(read_audio, utterance, RATE_HZ)
    assert says in message and "s1-b x.wav of s1-b" in message
