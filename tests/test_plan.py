"""Sites, plans and their files."""

import numpy as np
import pytest

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.plan import DENSE, Plan, dense_plan, plan_params

SITES = [Site("a.weight", (12, 20), "linear"), Site("b.weight_hh_l0", (40, 10), "lstm_recurrent")]
RANKS = {"a.weight": 3, "b.weight_hh_l0": DENSE}


def test_hash_ignores_the_order_of_sites():
    assert Plan(RANKS).hash == Plan(dict(reversed(RANKS.items()))).hash


def test_hash_differs_wherever_a_rank_differs():
    plans = [
        RANKS,
        {**RANKS, "a.weight": 4},
        {**RANKS, "a.weight": DENSE},
        {"a.weight": DENSE, "b.weight_hh_l0": 3},
        {"a.weight": 3},
        {"a.weight": 31, "b": 1},
        {"a.weight": 3, "b": 11},
        {"a.weight3": 1},
        {"a.weight": 33},
    ]
    assert len({Plan(ranks).hash for ranks in plans}) == len(plans)


def test_plan_survives_its_file(tmp_path):
    path = tmp_path / "new" / "plan.yaml"
    Plan(RANKS).save(path, params=12, searcher="uniform")
    loaded = Plan.load(path)
    assert loaded.ranks == RANKS and loaded.hash == Plan(RANKS).hash
    assert read_yaml(path) == {"params": 12, "searcher": "uniform", "ranks": RANKS}


def test_only_sites_with_a_rank_are_factored():
    assert Plan(RANKS).factored == {"a.weight": 3}
    assert dense_plan(SITES).factored == {}


@pytest.mark.parametrize("rank", [1, 7, DENSE])
def test_ranks_below_break_even_pass_the_check(rank):
    # 12 * 20 / (12 + 20) = 7.5
    Plan({**RANKS, "a.weight": rank}).check(SITES)


@pytest.mark.parametrize("rank", [0, -1, 2.0, True, False, 8, 10**9, "3", "Dense", None, [3]])
def test_a_rank_out_of_range_is_named_with_its_site_and_the_range(rank):
    with pytest.raises(ShrinkError, match=r"of a\.weight is out of range: give 1 to 7 ") as caught:
        Plan({**RANKS, "a.weight": rank}).check(SITES)
    assert repr(rank) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["c.weight", 5])
def test_an_unknown_site_is_named(name):
    with pytest.raises(ShrinkError, match=f"names {name}, which is no site"):
        Plan({**RANKS, name: 2}).check(SITES)


def test_unknown_names_of_mixed_types_are_one_error():
    with pytest.raises(ShrinkError, match="no site of this model"):
        Plan({**RANKS, 5: 2, "z": 1}).check(SITES)


def test_a_missing_site_is_named():
    with pytest.raises(ShrinkError, match="gives no rank for b.weight_hh_l0"):
        Plan({"a.weight": 3}).check(SITES)


def test_the_largest_useful_rank_is_the_last_with_fewer_parameters_than_dense():
    generator = np.random.default_rng(0)
    shapes = [(1, 1), (1, 9), (2, 2), (3, 6), (4, 4), (6, 3), (4, 12), (1024, 256)]
    shapes += [tuple(int(n) for n in generator.integers(1, 400, 2)) for _ in range(300)]
    for shape in shapes:
        site = Site("w", shape, "linear")
        useful = [r for r in range(1, site.full_rank + 1) if site.params_at(r) < site.params]
        assert site.largest_useful_rank == max(useful, default=0), shape


def test_parameters_of_a_plan_are_those_of_its_factors():
    assert plan_params(Plan(RANKS), SITES) == 3 * 12 + 3 * 20 + 40 * 10
    assert plan_params(dense_plan(SITES), SITES) == 12 * 20 + 40 * 10


BAD_FILES = {
    "empty": b"",
    "a comment": b"# nothing\n",
    "a list": b"- a\n- b\n",
    "a word": b"ranks\n",
    "a broken mapping": b"ranks: {a.weight: 3\n",
    "a tab": b"ranks:\n\ta.weight: 3\n",
    "no such date": b"ranks: {a.weight: 2024-13-45}\n",
    "not UTF-8": b"ranks: {\xff\xfe: 3}\n",
    "binary": b"\x80\x02}q\x00.\x00",
    "an object": b"ranks: !!python/object/apply:os.getcwd []\n",
    "no ranks": b"params: 12\n",
    "empty ranks": b"ranks: {}\n",
    "ranks as a list": b"ranks: [a.weight, 3]\n",
    "ranks as a word": b"ranks: dense\n",
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_malformed_plan_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "plan.yaml"
    path.write_bytes(content)
    with pytest.raises(ShrinkError) as caught:
        Plan.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message


def test_a_missing_plan_file_is_named(tmp_path):
    path = tmp_path / "plan.yaml"
    with pytest.raises(ShrinkError, match="no such file: .*plan.yaml"):
        Plan.load(path)
    with pytest.raises(ShrinkError, match="no such file"):
        Plan.load(tmp_path)
    path.write_text("")
    with pytest.raises(ShrinkError, match="no such file"):
        Plan.load(path / "plan.yaml")
