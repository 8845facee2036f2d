"""The model card (README.md) of a packed model, as Hugging Face reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml

from espnet_shrink.plan import Amount
from espnet_shrink.report import layout, tables, verdicts
from espnet_shrink.report.results import Results, Size

UNKNOWN_LICENSE = "unknown"

TEMPLATE = """\
---
{{ front_matter }}---

# {{ name }}

{{ base.origin }}, made {{ '%.2f' | format(final.compression) }} times smaller by
low-rank factorisation with `espnet_shrink`: {{
'{:,}'.format(final.params) }} of {{ '{:,}'.format(results.baseline.params) }} parameters.

## Use

```sh
pip install espnet_shrink   # without it ESPnet cannot build the factorised layers
```

```python
import espnet_shrink
from espnet2.bin.{{ inference }} import {{ inference_class }}

model = {{ inference_class }}.from_pretrained("{{ archive }}")
```

## Before and after

Measured on {{ results.corpus }}.

{{ main }}

{% for note in notes %}- {{ note | replace('*', '\\*') }}
{% endfor %}

{% for verdict in verdicts %}{{ verdict }}

{% endfor -%}
## Base model

- from: `{{ base.origin }}`
- SHA-256 of its parameters: `{{ base.hash }}`
- license: {{ base.license }}

## Plan

{{ ranks | length }} weight matrices, {{ factored }} of them factorised; the others stay dense.

| site | rank |
|---|---:|
{% for site, rank in ranks.items() %}|{{ site }}|{{ rank }}|
{% endfor %}
## How it was made

```sh
{{ results.commands | join('\n') }}
```

- python `{{ results.versions.python }}`, pytorch `{{ results.versions.torch }}`
- espnet `{{ results.versions.espnet }}`, espnet_shrink `{{ results.versions.espnet_shrink }}`
- seed {{ results.seed }}
"""


@dataclass(frozen=True)
class Base:
    """The uncompressed model.

    Attributes:
        origin: what the user called it: a path or a tag.
        hash: SHA-256 of its parameters.
        license: as its own card says.
    """

    origin: str
    hash: str
    license: str


def card(
    results: Results,
    size: Size,
    base: Base,
    ranks: Mapping[str, Amount],
    archive: str,
    inference: tuple[str, str],
) -> str:
    """The card of the final model of one of the sizes of `results`.

    Args:
        size: whose model it is.
        ranks: site -> rank or "dense".
        archive: name of the packed file.
        inference: module in espnet2.bin and class that decode such a model.
    """
    front = {
        "tags": ["espnet", "audio", "automatic-speech-recognition", "espnet_shrink", "low-rank"],
        "license": base.license,
        "base_model": base.origin,
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return environment.from_string(TEMPLATE).render(
        front_matter=yaml.safe_dump(front, sort_keys=False),
        name=Path(archive).stem,
        results=results,
        final=results.final_of(size),
        base=base,
        ranks=ranks,
        factored=sum(rank != "dense" for rank in ranks.values()),
        main=layout.markdown(tables.main_table(results, results.sets)),
        notes=verdicts.notes(results),
        verdicts=[verdicts.verdict(results, name, size) for name in results.sets],
        archive=archive,
        inference=inference[0],
        inference_class=inference[1],
    )


def license_of(documents: Sequence[Path]) -> str:
    """The license that a base model's README.md gives in its front matter, or "unknown"."""
    for path in documents:
        if path.name.lower() == "readme.md":
            text = path.read_text(encoding="utf-8", errors="replace")
            found = re.search(r"\A---\n.*?^license:\s*(\S+)\s*$.*?^---$", text, re.S | re.M)
            if found:
                return found.group(1)
    return UNKNOWN_LICENSE
