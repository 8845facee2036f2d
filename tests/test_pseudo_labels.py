"""A training folder from audio alone."""

from pathlib import Path

import pytest
import soundfile
import torch
from conftest import RATE_HZ, tree

from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import evenly_spaced, read_folder, read_table
from espnet_shrink.data.training_data import training_data
from espnet_shrink.errors import ShrinkError
from espnet_shrink.objectives import pseudo_labels
from espnet_shrink.objectives.decode_set import fewest_errors
from espnet_shrink.objectives.heard import Heard
from espnet_shrink.objectives.pseudo_labels import pseudo_labelled
from espnet_shrink.objectives.score import Scorer

DEV = Path("dump/raw/dev")
OUT = Path("small/unlabelled")


@pytest.fixture
def recordings(recipe):
    """The test set's audio, and a recording of silence; no text."""
    folder = Path("audio")
    folder.mkdir()
    soundfile.write("wav/silence.wav", torch.zeros(RATE_HZ // 2).numpy(), RATE_HZ)
    lines = Path("dump/raw/test/wav.scp").read_text() + "zsilence wav/silence.wav\n"
    (folder / "wav.scp").write_text(lines)
    return folder


def test_texts_are_the_models_own_and_can_be_trained_on(baseline, recordings, monkeypatch, capsys):
    monkeypatch.setattr(pseudo_labels, "AT_ONCE", 3)
    made = pseudo_labelled(Heard(baseline, DEV), recordings, OUT)
    dev = extract(baseline, DEV)
    decoder = fewest_errors(Scorer(baseline, dev).hypotheses(), dev)
    features = extract(baseline, "dump/raw/test")
    (texts,) = Scorer(baseline, features, only=decoder).hypotheses().values()
    pairs = zip(features.utterances, map(evenly_spaced, texts), strict=True)
    wanted = {u.name: text for u, text in pairs if text}
    assert len(wanted) > 3
    assert wanted.items() <= read_table(made / "text").items()
    left_out = len(read_table(recordings / "wav.scp")) - len(read_folder(made))
    said = f"{left_out} of 7 utterances of audio are left out" in capsys.readouterr().out
    assert said == (left_out > 0)
    assert training_data(baseline, made, DEV, {}).keys


def test_it_resumes_and_is_made_once(baseline, recordings, monkeypatch):
    monkeypatch.setattr(pseudo_labels, "AT_ONCE", 3)
    decode, parts = pseudo_labels.extract_recordings, []

    def killed_in_the_third(loaded, part):
        parts.append(len(part))
        if len(parts) == 3:
            raise KeyboardInterrupt
        return decode(loaded, part)

    monkeypatch.setattr(pseudo_labels, "extract_recordings", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        pseudo_labelled(Heard(baseline, DEV), recordings, OUT)
    assert not (OUT / "train").exists()
    pseudo_labelled(Heard(baseline, DEV), recordings, OUT)
    assert parts == [3, 3, 1, 1]
    before = tree(OUT)
    pseudo_labelled(Heard(baseline, DEV), recordings, OUT)
    assert tree(OUT) == before and len(parts) == 4
    other = baseline.copy()
    next(other.model.parameters()).data += 1.0
    with pytest.raises(ShrinkError, match="holds a run with other settings .base_hash"):
        pseudo_labelled(Heard(other, DEV), recordings, OUT)


def test_what_is_no_audio_or_has_nothing_to_hear_is_refused(baseline, recordings):
    with pytest.raises(ShrinkError, match="no such data folder: nowhere"):
        pseudo_labelled(Heard(baseline, DEV), Path("nowhere"), OUT)
    (recordings / "wav.scp").write_text("a cat a.wav |\n")
    with pytest.raises(ShrinkError, match="a is a pipe"):
        pseudo_labelled(Heard(baseline, DEV), recordings, OUT)
    assert not (OUT / "train").exists()
