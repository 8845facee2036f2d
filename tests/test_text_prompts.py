"""What a model is asked for: OWSM by tags in front of the text, Whisper by its tokenizer."""

import importlib.util
from pathlib import Path

import pytest
import soundfile
import yaml
from architectures import make
from test_proxy_decoders import a_model_that_listens, data  # noqa: F401

from espnet_shrink.core.files import read_yaml
from espnet_shrink.data.features import extract
from espnet_shrink.data.kaldi import read_folder
from espnet_shrink.methods.lowrank.analysis import observe
from espnet_shrink.methods.lowrank.sites import survey
from espnet_shrink.objectives import greedy
from espnet_shrink.objectives.score import Scorer

TOKENS = ["<blank>", "<unk>", "<space>", "a", "b", "c", "d", "<na>", "<eng>", "<deu>", "<asr>",
          "<st_eng>", "<notimestamps>", "<0.00>", "<30.00>", "<sop>", "<sos>", "<eos>"]  # fmt: skip
OWSM = {"token_list": TOKENS}
TAGGED = ["<eng><asr><notimestamps> a b", "<deu> <asr> <notimestamps> cd a", "b",
          "<deu><st_eng><0.00> dab cad<30.00>", "<st_eng> c"]  # fmt: skip
ASKED = [("<eng>", "<asr>"), ("<deu>", "<asr>"), ("<eng>", "<asr>"), ("<deu>", "<st_eng>"),
         ("<eng>", "<st_eng>")]  # fmt: skip


def write_texts(folder: Path, texts: list[str]) -> None:
    lines = [f"utt{i} {text}\n" for i, text in enumerate(texts)]
    (folder / "text").write_text("".join(lines), encoding="utf-8")


def by_espnet(loaded, folder: Path, asked: list[tuple[str, str]]) -> list[str]:
    from espnet2.bin.s2t_inference import Speech2Text

    decode = Speech2Text(str(loaded.config), str(loaded.checkpoint), beam_size=1, ctc_weight=0.0)
    texts = []
    for utterance, (language, task) in zip(read_folder(folder), asked, strict=True):
        audio = soundfile.read(utterance.audio, dtype="float32")[0]
        texts.append(decode(audio, lang_sym=language, task_sym=task)[0][3])
    return texts


def test_tags_in_front_of_a_text_ask_for_its_language_and_task(data, tmp_path, monkeypatch):  # noqa: F811
    loaded, _ = a_model_that_listens("s2t", data, tmp_path, OWSM)
    write_texts(data, TAGGED)
    features = extract(loaded, data)
    assert features.references == ["a b", "cd a", "b", "dab cad", "c"]
    texts = by_espnet(loaded, data, ASKED)
    scorer = Scorer(loaded, features)
    assert scorer.hypotheses() == {"attention": texts}  # the CTC head writes what is spoken
    monkeypatch.setattr(greedy, "BATCH_FRAMES", 1)
    assert Scorer(loaded, features).hypotheses() == {"attention": texts}
    (data / "text").write_text("".join(f"utt{i} {t}\n" for i, t in enumerate(features.references)))
    plain = Scorer(loaded, extract(loaded, data))
    assert plain.hypotheses()["attention"] == by_espnet(loaded, data, [ASKED[0]] * 5)
    german = loaded.asking("deu", "<st_eng>")
    expected = by_espnet(loaded, data, [("<deu>", "<st_eng>")] * 5)
    assert Scorer(german, extract(german, data)).hypotheses() == {"attention": expected}


def test_the_command_line_asks_where_a_text_does_not(data, tmp_path, shrink):  # noqa: F811
    make("s2t", tmp_path / "exp", 1, OWSM)
    command = ["proxy", "--exp", tmp_path / "exp", "--data", data, "--size", 2, "--out"]
    write_texts(data, TAGGED)
    assert shrink(*command, tmp_path / "tagged").status == 0
    kept = {u.text for u in read_folder(tmp_path / "tagged")}
    assert kept < set(TAGGED)  # the tags go along
    write_texts(data, [text.rpartition(">")[2].strip() or "dab cad" for text in TAGGED])
    assert shrink(*command, tmp_path / "a", "--lang_sym", "deu", "--task_sym", "<asr>").status == 0
    other = shrink(*command, tmp_path / "a", "--lang_sym", "eng", "--task_sym", "<asr>")
    assert other.status == 2 and "lang_sym" in other.err  # another question, another answer
    for asked, line in ((("--lang_sym", "fra"), "has no <fra>: begin every text with its tags"),
                        (("--task_sym", "st_deu"), "has no <st_deu>")):  # fmt: skip
        refused = shrink(*command, tmp_path / "b", *asked)
        assert refused.status == 2 and line in refused.err and not (tmp_path / "b").exists()
    write_texts(data, ["<fra><asr> a", *TAGGED[1:]])
    refused = shrink(*command, tmp_path / "b")
    assert refused.status == 2 and "no <fra>, which is in front of '<fra><asr> a'" in refused.err
    make("rnn", tmp_path / "rnn")
    command[2] = tmp_path / "rnn"
    refused = shrink(*command, tmp_path / "b", "--lang_sym", "eng")
    assert refused.status == 2 and "--lang_sym asks a speech-to-text" in refused.err


def whisper(kind, folder: Path, conf: dict) -> dict:
    size = {"whisper_en": 51864, "whisper_multilingual": 51865}[kind]
    ends = ["<|startoftranscript|>", "<|endoftext|>"]
    tokens = [*(f"token{i}" for i in range(size - len(ends))), *ends]
    (folder / "tokens.txt").write_text("\n".join(tokens) + "\n")
    return {
        "token_type": kind, "bpemodel": kind, "token_list": str(folder / "tokens.txt"),
        "preprocessor_conf": conf,
    }  # fmt: skip


@pytest.mark.parametrize("kind, conf, prompt", [
    ("whisper_multilingual", {"whisper_language": "de", "whisper_task": "translate"},
     [50258, 50261, 50358, 50363]),
    ("whisper_multilingual", {}, [50258, 50259, 50359, 50363]),
    ("whisper_en", {}, [50257, 50362]),
])  # fmt: skip
def test_whisper_is_asked_as_by_espnet(kind, conf, prompt, data, tmp_path):  # noqa: F811
    loaded, texts = a_model_that_listens("whisper", data, tmp_path, whisper(kind, tmp_path, conf))
    features = extract(loaded, data)
    assert [p.first for p in features.prompts] == [prompt] * 5
    assert not any(set(prompt) & set(tokens) for tokens in features.tokens)
    assert Scorer(loaded, features).hypotheses()["attention"] == texts
    seen = observe(loaded, survey(loaded.model), features)
    steps = sum(len(prompt) + len(tokens) for tokens in features.tokens)
    assert seen.uses["decoder.decoders.blocks.0.attn.query.weight"] == steps


def test_a_tokenizer_that_cannot_be_made_is_one_line(data, tmp_path, shrink):  # noqa: F811
    exp = tmp_path / "exp"
    make("conformer", exp)
    config = read_yaml(exp / "config.yaml")
    cases = [
        ({"token_type": "hugging_face", "bpemodel": str(tmp_path / "nothing")}, "hugging_face"),
        ({"token_type": "bpe", "bpemodel": str(tmp_path / "nothing.model")}, "nothing.model"),
        ({"token_type": "bpe", "bpemodel": None}, "names no bpemodel"),
        ({"token_type": None}, "names no token_type"),
    ]
    if importlib.util.find_spec("transformers") is None:
        cases[0] = (cases[0][0], "transformers")
    for change, line in cases:
        (exp / "config.yaml").write_text(yaml.safe_dump({**config, **change}))
        refused = shrink("proxy", "--exp", exp, "--data", data, "--size", 2, "--out",
                         tmp_path / "out")  # fmt: skip
        told = [line for line in refused.err.splitlines() if " takes the tokenizer " not in line]
        assert refused.status == 2 and len(told) == 1 and line in told[0], refused.err
        assert not (tmp_path / "out").exists()
