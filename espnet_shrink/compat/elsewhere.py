"""Parts of a config whose classes bring weights, code or data from elsewhere as they are built.

Facts used here:
- S3PRL loads its upstreams through torch.hub or from a URL; fairseq and ESPnet's SSL models
  unpickle what they download: whoever names the model chooses what is executed here.
- Whisper's package has the checksums of its models; transformers reads tensors only, unless told
  to trust code (ESPnet 202511 hands `trust_remote_code` of a config on to it).
- g2p_en and pyopenjtalk download their dictionaries when they first turn text into phones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_shrink.compat.whisper.sizes import sizes_of

HUGGING_FACE = "Hugging Face"
HF_PARTS = (
    "encoder", "postencoder", "deliberationencoder", "decoder", "postdecoder", "extra_mt_encoder",
)  # fmt: skip
FAIRSEQ = {
    "wav2vec2": "w2v_url", "hubert": "hubert_url", "hubert_pretrain": "hubert_url",
    "avhubert": "avhubert_url",
}  # fmt: skip
_told: set[str] = set()


@dataclass(frozen=True)
class Fetch:
    """What a class brings from elsewhere.

    Attributes:
        part: key and value of the config that name the class, such as "frontend s3prl".
        what: the model that the config names.
        source: where it comes from.
        executes: whether what comes can execute code here.
    """

    part: str
    what: str
    source: str
    executes: bool

    def __str__(self) -> str:
        code = ", and what comes can execute code" if self.executes else ""
        return f"{self.part} takes {self.what} from {self.source}{code}"


def fetches(config: Mapping[str, Any]) -> list[Fetch]:
    """All that building the model and the tokenizer of a config.yaml takes from elsewhere."""
    return list(dict.fromkeys(_fetches(config)))


def tell_fetches(config: Mapping[str, Any], path: str | Path) -> None:
    """Name on stderr, once in a process, what building the model of `path` will fetch."""
    for fetch in fetches(config):
        if str(fetch) not in _told:
            _told.add(str(fetch))
            print(f"{path}: {fetch} (unless it is in the cache)", file=sys.stderr, flush=True)


def _fetches(config: Mapping[str, Any]) -> Iterator[Fetch]:
    frontend, conf = config.get("frontend"), _mapping(config.get("frontend_conf"))
    if frontend in ("s3prl", "espnet_ssl"):
        yield _upstream(frontend, conf)
    elif frontend == "fused":
        frontends = conf.get("frontends")
        for part in map(_mapping, frontends if isinstance(frontends, list) else []):
            if part.get("frontend_type") == "s3prl":
                yield _upstream("s3prl", part)
    elif frontend == "whisper":
        yield from _whisper("frontend", conf)
    elif frontend == "huggingface":
        yield _transformers("frontend huggingface", conf, "model")
    for key in HF_PARTS:
        name, conf = config.get(key), _mapping(config.get(f"{key}_conf"))
        if name == "whisper":
            yield from _whisper(key, conf)
        elif name == "hugging_face_transformers":
            yield _transformers(f"{key} {name}", conf, "model_name_or_path")
        elif key == "encoder" and isinstance(name, str) and name in FAIRSEQ:
            what = conf.get(FAIRSEQ[name], "its pretrained model")
            yield Fetch(f"encoder {name}", f"{what}", "fairseq's loader", True)
    if config.get("lm") == "transformer_opt":
        yield _transformers("lm transformer_opt", _mapping(config.get("lm_conf")), "opt_name")
    yield from _of_text(config)


def _of_text(config: Mapping[str, Any]) -> Iterator[Fetch]:
    for prefix in ("", "src_"):
        kind, g2p = config.get(f"{prefix}token_type"), config.get(f"{prefix}g2p")
        if kind == "hugging_face":
            what = f"the tokenizer {config.get(f'{prefix}bpemodel')}"
            yield Fetch(f"{prefix}token_type hugging_face", what, HUGGING_FACE, False)
        elif kind == "phn" and str(g2p).startswith(("g2p_en", "pyopenjtalk")):
            source = "NLTK" if str(g2p).startswith("g2p_en") else "Open JTalk"
            yield Fetch(f"{prefix}g2p {g2p}", "its dictionaries", source, False)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _upstream(frontend: str, conf: Mapping[str, Any]) -> Fetch:
    named = _mapping(conf.get("frontend_conf"))
    what = named.get("path_or_url") or named.get("upstream") or "its upstream"
    hub = {"s3prl": "S3PRL's hub", "espnet_ssl": "ESPnet's model zoo"}[frontend]
    return Fetch(f"frontend {frontend}", f"{what}", hub, True)


def _whisper(key: str, conf: Mapping[str, Any]) -> Iterator[Fetch]:
    what = conf.get("whisper_model", "small")
    if sizes_of(what) is None:
        yield Fetch(f"{key} whisper", f"the model {what}", "OpenAI's server", False)


def _transformers(part: str, conf: Mapping[str, Any], name: str) -> Fetch:
    trusts = bool(_mapping(conf.get("overriding_architecture_config")).get("trust_remote_code"))
    return Fetch(part, f"the model {conf.get(name)}", HUGGING_FACE, trusts)
