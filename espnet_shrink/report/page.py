"""One self-contained HTML page with the tables and plots of results.json."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import jinja2

from espnet_shrink.compat.criterion import model_name
from espnet_shrink.compat.models import find_model
from espnet_shrink.core.files import write_text
from espnet_shrink.report import tables, verdicts
from espnet_shrink.report.documents import PARETO, final_models
from espnet_shrink.report.pareto import plot_pareto
from espnet_shrink.report.plots import plot_ranks, plot_wer
from espnet_shrink.report.results import Results

TEMPLATE = """\
{%- macro table(t) -%}
<div class="wide"><table{% if not t.numeric %} class="words"{% endif %}>
<thead><tr>{% for cell in t.header %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in t.rows -%}
<tr{% if t.last_is_final and loop.last %} class="final"{% endif %}>
{%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor -%}
</tbody></table></div>
{%- endmacro -%}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ results.corpus }}: {{ times }} times smaller</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #555; vertical-align: bottom; white-space: normal; }
.words th, .words td, th:first-child, td:first-child { text-align: left; }
.final td { font-weight: bold; background: #eef5fa; }
img { max-width: 100%; height: auto; }
pre { background: #f4f5f6; padding: .8rem 1rem; overflow-x: auto; }
.notes { color: #555; font-size: .9rem; padding-left: 1.2rem; }
summary { cursor: pointer; color: #0072B2; }
</style>
</head>
<body>
<h1>{{ results.corpus }}: {{ times }} times smaller</h1>
{% for paragraph in verdicts %}<p>{{ paragraph }}</p>
{% endfor -%}
<h2>Results</h2>
{{ table(main) }}
<ul class="notes">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
<p><img alt="{{ results.metric | upper }} against parameters"
src="data:image/png;base64,{{ main_png }}"></p>
{% if results.variants -%}
<h2>The final model in other forms</h2>
{{ table(variants) }}
<p>{{ variants_note }}</p>
{% endif -%}
<h2>Load the final model</h2>
<p>Folders are relative to that of results.json
{%- if results.sizes | length > 1 %}:{% for name, exp in models %}
<br>{{ name }}: <code>{{ exp }}</code>{% endfor %}{% else %}.{% endif %}</p>
<pre><code>import soundfile
import espnet_shrink  # teaches ESPnet the compressed layers
from espnet2.bin.asr_inference import Speech2Text

exp = {{ exp }}
speech2text = Speech2Text(f"{exp}/config.yaml", f"{exp}/{{ model_file }}")
speech, rate = soundfile.read("speech.wav")
text, *_ = speech2text(speech)[0]
print(text)</code></pre>
{% if rounds.rows -%}
<h2>Rounds</h2>
{{ table(rounds) }}
<h2>Rank of each site</h2>
<p><img alt="Rank kept at each site" src="data:image/png;base64,{{ ranks_png }}"></p>
<details><summary>Ranks as a table</summary>{{ table(ranks) }}</details>
{% endif -%}
{% if results.uncompressed -%}
<h2>Not compressed</h2>
<details><summary>{{ results.uncompressed | length }} parameters, with the reason</summary>
{{ table(uncompressed) }}</details>
{% endif -%}
<h2>How it was made</h2>
<p>Seed {{ results.seed }}; Python {{ results.versions.python }}, PyTorch
{{ results.versions.torch }}, ESPnet {{ results.versions.espnet }}, espnet_shrink
{{ results.versions.espnet_shrink }}.</p>
{% if results.commands %}<pre><code>{{ results.commands | join('\\n') }}</code></pre>{% endif %}
</body>
</html>
"""


def report_html(results: Results, out_dir: str | os.PathLike[str]) -> Path:
    """Write `report.html` to `out_dir`, and its plots: `wer.png` or `pareto.png`, and `ranks.png`.

    Returns:
        The path of the page, which holds the plots and needs no other file.
    """
    out = Path(out_dir)
    several = len(results.sizes) > 1
    main_png = out / (PARETO if several else "wer.png")
    (plot_pareto if several else plot_wer)(results, main_png)
    plot_ranks(results, out / "ranks.png")
    models = [size.final for size in results.sizes if size.final is not None]
    times = [f"{model.compression:.2f}" for model in models or [results.final]]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(TEMPLATE).render(
        results=results,
        times=" and ".join(filter(None, [", ".join(times[:-1]), times[-1]])),
        verdicts=verdicts.verdicts(results),
        main=tables.main_table(results, results.sets),
        notes=verdicts.notes(results),
        variants=tables.variants_table(results, results.sets),
        variants_note=verdicts.VARIANTS_NOTE,
        rounds=tables.rounds_table(results),
        ranks=tables.rank_table(results),
        uncompressed=tables.uncompressed_table(results),
        main_png=_base64(main_png),
        ranks_png=_base64(out / "ranks.png"),
        models=final_models(results),
        exp=repr(results.final.exp),
        model_file=_model_file(out / results.final.exp),
    )
    write_text(out / "report.html", page)
    return out / "report.html"


def _model_file(exp: Path) -> str:
    """The checkpoint to decode with; a report may stand without its model."""
    config = exp / "config.yaml"
    return find_model(exp)[1].name if config.exists() else model_name({})


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
