"""RESULTS.md, the terminal table, plots and report.html of made-up results."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
from test_report_results import (
    a_variant,
    example,
    loaded,
    measured,
    with_variants,
)

from espnet_shrink.errors import ShrinkError
from espnet_shrink.report.documents import results_md, results_text
from espnet_shrink.report.page import report_html
from espnet_shrink.report.plots import plot_ranks, plot_wer
from espnet_shrink.report.results import LeftOut as Uncompressed
from espnet_shrink.report.verdicts import verdict


def markdown_table(text, heading):
    """The rows of the first table under a heading, as dicts from header to cell."""
    section = text.split(f"## {heading}\n")[1]
    lines = section.strip().split("\n\n")[0].splitlines()
    header, _, *rows = [
        [cell.replace("\\", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_markdown_says_what_the_results_say(tmp_path):
    text = results_md(loaded(tmp_path, example()))
    assert text.startswith("# RESULTS\n\n## Environments\n")
    for version in ("3.11.2", "2.12.1", "202511", "0.1.0"):
        assert version in text

    rows = markdown_table(text, "WER, CER, RTF")
    assert [row["system"] for row in rows] == [
        "baseline",
        "control",
        "round 1",
        "round 2 (rolled back)",
        "round 3",
        "**final (round 3)**",
    ]
    data = example()
    systems = [data["baseline"], data["control"], *data["rounds"], data["final"]]
    for row, system in zip(rows, systems, strict=True):
        cells = {key: value.strip("*").strip() for key, value in row.items()}
        assert float(cells["compression"]) == pytest.approx(4e6 / system["params"])
        assert float(cells["params (M)"]) * 1e6 == system["params"]
        assert float(cells["size (MiB)"]) == pytest.approx(system["size_mib"], abs=0.005)
        macs = float(cells["MACs/s (M)"]) * 1e6
        assert macs == pytest.approx(system["macs_per_audio_second"])
        if not system["wer"]:
            assert {cells[c] for c in ("WER % test [95 %]", "CER % test", "RTF test")} == {"-"}
            continue
        numbers = [float(n) for n in re.findall(r"[\d.]+", cells["WER % test [95 %]"])]
        expected = [system["wer"]["test"], *system["wer_interval"]["test"]]
        assert numbers == pytest.approx(expected, abs=0.005)
        assert float(cells["CER % test"]) == pytest.approx(system["cer"]["test"], abs=0.005)
        assert float(cells["RTF test"]) == system["rtf"]["test"]
    assert all(cell.startswith("**") and cell.endswith("**") for cell in rows[-1].values())
    assert [row["WER % test [95 %]"].endswith(" *") for row in rows[:2]] == [False, True]

    ranks = markdown_table(text, "Rank of each site")
    assert [list(row.values()) for row in ranks] == [
        ["encoder.layer0.weight", "256", "dense", "dense", "dense"],
        ["encoder.layer1.weight", "256", "128", "16", "32"],
        ["encoder.layer2.weight", "256", "128", "16", "32"],
    ]
    assert markdown_table(text, "Not compressed") == [
        {"parameter": "decoder.embed", "reason": "embedding"}
    ]
    assert "./run.sh --seed 7" in text


def test_other_forms_of_the_final_model_have_a_table_everywhere(tmp_path):
    results = loaded(tmp_path, with_variants())
    rows = markdown_table(results_md(results), "The final model in other forms")
    assert [row["final model as"] for row in rows] == [
        "float32 (torch)", "int8 (torch)", "ONNX, CTC greedy"
    ]  # fmt: skip
    assert [float(row["disk (MiB)"]) for row in rows] == [3.05, 1.25, 2.5]
    assert [float(row["memory (MiB)"]) for row in rows] == [3.05, 3.75, 7.5]
    assert [row["WER % test [95 %]"] for row in rows[1:]] == [
        "2.70 [2.16, 3.24]", "6.25 [5.00, 7.50]"
    ]  # fmt: skip
    assert {row["RTF test"] for row in rows} == {"0.050"}

    text = results_text(results)
    lines = [line for line in text.splitlines() if line.startswith(("int8 (torch)", "ONNX, CTC"))]
    assert len(lines) == 2 and all("1.25" in lines[0] and len(line) <= 110 for line in lines)
    assert [line.index(wer) for line, wer in zip(lines, ("2.70 [", "6.25 ["), strict=True)] == (
        2 * [lines[0].index("2.70 [")]
    )
    page = Page(report_html(results, tmp_path / "out").read_text(encoding="utf-8"))
    assert "The final model in other forms" in page.words and "6.25 [5.00, 7.50]" in page.words
    assert page.tags.count("table") == 5


def test_without_other_forms_there_is_no_table_of_them(tmp_path):
    results = loaded(tmp_path, example())
    page = report_html(results, tmp_path / "out").read_text(encoding="utf-8")
    for text in (results_md(results), results_text(results), page):
        assert "disk (MiB)" not in text and "other forms" not in text


def test_a_form_may_lack_a_set_but_not_have_one_of_its_own(tmp_path):
    data = with_variants()
    for key in ("wer", "cer", "rtf", "wer_interval", "cer_interval"):
        for system in (data["baseline"], data["control"], data["final"], *data["rounds"][::2]):
            system[key] = {"test": system[key]["test"], "other": system[key]["test"]}
    rows = markdown_table(results_md(loaded(tmp_path, data)), "The final model in other forms")
    assert rows[1]["WER % other [95 %]"] == "-" and rows[1]["WER % test [95 %]"] != "-"
    data["variants"][0] = a_variant("int8 (torch)", 1.25, 2.7, sets=("train",))
    with pytest.raises(ShrinkError, match=r"variants\[0\]"):
        loaded(tmp_path, data)


@pytest.mark.parametrize(
    ("baseline", "control", "final", "better", "where"),
    [
        (2.43, 2.17, 2.5, "control", "within"),
        (2.43, 2.60, 2.5, "baseline", "within"),
        (2.43, 2.17, 2.9, "control", "above"),  # within the baseline's, but that is the worse
        (2.43, 2.17, 1.0, "control", "below"),
        (0.0, 2.17, 0.1, "baseline", "above"),
    ],
)
def test_verdict_compares_with_the_better_baseline(
    tmp_path, baseline, control, final, better, where
):
    data = example()
    data["baseline"] |= measured(4_000_000, baseline)
    data["control"] |= measured(4_000_000, control)
    data["final"] |= measured(800_000, final)
    said = verdict(loaded(tmp_path, data), "test")
    assert f"the better uncompressed model is the {better}" in said
    assert f"{where} the {better}'s 95 % interval" in said
    assert f"{final - min(baseline, control):+.2f} absolute" in said


def test_terminal_table_lines_up_and_fits(tmp_path):
    text = results_text(loaded(tmp_path, example()))
    table = text.split("\n\n")[0].splitlines()[1:]
    assert max(map(len, table)) <= 110
    column = table[0].index("WER %")
    rows = table[2:]
    assert all(row[column - 1] == " " and row[column] != " " for row in rows)
    assert [row.split()[0] for row in rows if "*" in row] == ["control"]


def test_markdown_cells_cannot_be_broken_by_names(tmp_path):
    results = loaded(tmp_path, example())
    nasty = Uncompressed(name="a|b", reason="two\nlines | and *stars*")
    text = results_md(replace(results, uncompressed=[nasty]))
    assert markdown_table(text, "Not compressed") == [
        {"parameter": "a|b", "reason": "two lines | and *stars*"}
    ]


def colours(path):
    """Height, width and the number of colours of a PNG file."""
    pixels = (255 * matplotlib.image.imread(path)).astype(np.uint32)
    return *pixels.shape[:2], len(np.unique(pixels[..., :3] @ np.uint32([1, 256, 65536])))


@pytest.mark.parametrize("sites", [8, 60])
def test_plots_are_pictures_that_grow_with_the_sites(tmp_path, sites):
    results = loaded(tmp_path, example(sites))
    plot_wer(results, tmp_path / "wer.png")
    plot_ranks(results, tmp_path / "ranks.png")
    height, width, shades = colours(tmp_path / "wer.png")
    assert width == 1200 and height > 500 and shades > 50
    height, width, shades = colours(tmp_path / "ranks.png")
    assert width == 1200 and height > 40 * sites and shades > 20
    assert sorted(p.name for p in tmp_path.glob("*.p*")) == ["ranks.png", "wer.png"]


def test_plots_show_the_numbers(tmp_path):
    """Another WER or rank is another picture."""
    data = example()
    pictures = set()
    for wer, rank in ((2.5, 32), (2.9, 32), (2.5, 64)):
        data["rounds"][2] |= measured(800_000, wer)
        data["rounds"][2]["ranks"]["encoder.layer1.weight"] = rank
        results = loaded(tmp_path, data)
        plot_wer(results, tmp_path / "wer.png")
        plot_ranks(results, tmp_path / "ranks.png")
        pictures |= {(tmp_path / "wer.png").read_bytes(), (tmp_path / "ranks.png").read_bytes()}
    assert len(pictures) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"control": None},
        {"rounds": [], "final": measured(4_000_000, 2.43) | {"compression": 1.0, "round": 0}},
    ],
)
def test_runs_without_control_or_rounds_are_reported(tmp_path, change):
    results = loaded(tmp_path, example() | change)
    page = report_html(results, tmp_path / "out")
    assert page.stat().st_size > 20_000
    assert "## WER, CER, RTF" in results_md(results)
    assert results_text(results)


def test_faultless_systems_can_be_plotted(tmp_path):
    data = example()
    for system in (data["baseline"], data["control"], data["rounds"][0], data["rounds"][2]):
        system |= measured(system["params"], 0.0)
    plot_wer(loaded(tmp_path, data), tmp_path / "wer.png")
    assert colours(tmp_path / "wer.png")[2] > 50


class Page(HTMLParser):
    """Collects the tags, the text and the sources of images."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.links = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.words += data


def test_page_stands_alone_and_says_how_to_load_the_model(tmp_path):
    path = report_html(loaded(tmp_path, example()), tmp_path / "out")
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.links) == 2
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "exp = 'exp/800000'" in page.words
    assert "Speech2Text(" in page.words
    assert "5.00 times smaller" in page.words
    assert page.tags.count("table") == 4


def test_page_escapes_names(tmp_path):
    data = example()
    name = "<script>alert('$x$')</script>"
    data["corpus"] = data["uncompressed"][0]["name"] = data["final"]["exp"] = name
    data["rounds"][0]["ranks"][name] = "dense"
    data["rounds"][0]["full_ranks"][name] = 4
    path = report_html(loaded(tmp_path, data), tmp_path / "out")
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.words.count(name) >= 3


def test_where_cer_decides_nothing_is_called_wer(tmp_path):
    data = with_variants() | {"metric": "cer", "left_out": [{"name": "int8", "reason": "no"}]}
    data["control"]["cer"] = {"test": 9.9}  # by WER it is the better one
    data["baseline"]["rtf"] = {}
    results = loaded(tmp_path, data)
    assert results.better_baseline("test") == "baseline"
    page = report_html(results, tmp_path).read_text(encoding="utf-8")
    for text in (results_md(results), results_text(results), re.sub(r"base64,[^\"]*", "", page)):
        assert "CER %" in text and not re.search(r"\bWER\b", text)
        assert "int8 has no row: no." in text
    first = markdown_table(results_md(results), "CER, RTF")[0]
    assert first["CER % test [95 %]"] == "1.22 [0.97, 1.46] *" and first["RTF test"] == "-"
    del data["control"]["cer_interval"]
    with pytest.raises(ShrinkError, match="control` has no interval of `cer`"):
        loaded(tmp_path, data)
