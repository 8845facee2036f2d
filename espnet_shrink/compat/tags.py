"""Tags in front of a text, by which a speech-to-text (OWSM) model is asked for a language and task.

Such a model's data has lines like `utt <deu><asr><notimestamps> guten Tag`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espnet_shrink.compat.models import LoadedModel
from espnet_shrink.errors import ShrinkError

TAG = re.compile(r"<[^<>\s]+>")
IN_FRONT = re.compile(rf"\s*(?:{TAG.pattern}\s*)+")
TASK = re.compile(r"<asr>|<st_.+>")


def without_tags(config: Mapping[str, Any]) -> Callable[[str], str]:
    """What leaves the tags of a model's token list out of a text, as they are of hypotheses.

    Args:
        config: of any model; texts of other than speech-to-text models are left as they are.
    """
    if "notime_symbol" not in (config.get("preprocessor_conf") or {}):
        return lambda text: text
    listed = config["token_list"]
    if isinstance(listed, (str, Path)):
        listed = Path(listed).read_text(encoding="utf-8").split("\n")
    tokens = set(listed)

    def without(text: str) -> str:
        kept = TAG.sub(lambda tag: " " if tag.group() in tokens else tag.group(), text)
        return " ".join(kept.split())

    return without


class Tags:
    """The tags of one model.

    Args:
        token2id: the model's tokens.
        loaded: its `lang_sym` and `task_sym` hold where a text does not say.

    Raises:
        ShrinkError: the token list lacks one of them, or the config lacks the symbols of time.
    """

    def __init__(self, token2id: Mapping[str, int], loaded: LoadedModel) -> None:
        self._token2id, self._config = token2id, loaded.config
        self._language, self._task = loaded.lang_sym, loaded.task_sym
        conf = getattr(loaded.args, "preprocessor_conf", None) or {}
        try:
            self._no_time = str(conf["notime_symbol"])
            symbols = self._no_time, str(conf["first_time_symbol"]), str(conf["last_time_symbol"])
        except KeyError as error:
            raise ShrinkError(f"{loaded.config}: preprocessor_conf lacks {error.args[0]}") from None
        for tag in symbols:
            self._check(tag)
        self.first_time, self.last_time = (int(token2id[tag]) for tag in symbols[1:])

    def asked(self, text: str) -> tuple[str, str, str]:
        """Language, task and the wish for no time stamps, from the tags in front of a text.

        Raises:
            ShrinkError: the token list lacks a tag.
        """
        found = IN_FRONT.match(text)
        given = TAG.findall(found.group()) if found else []
        for tag in given:
            self._check(tag, f", which is in front of {text!r}")
        given = [tag for tag in given if not self._of_time(tag)]
        language, task = self._language, self._task
        if given and not TASK.fullmatch(given[0]):
            language = given.pop(0)
        if given:
            task = given[0]
        for tag, option in ((language, "--lang_sym"), (task, "--task_sym")):
            self._check(tag, f": begin every text with its tags, or give {option}")
        return language, task, self._no_time

    def _of_time(self, tag: str) -> bool:
        return tag == self._no_time or (self.first_time <= self._token2id[tag] <= self.last_time)

    def _check(self, tag: str, where: str = "") -> None:
        if tag not in self._token2id:
            raise ShrinkError(f"{self._config}: the token list has no {tag}{where}")
