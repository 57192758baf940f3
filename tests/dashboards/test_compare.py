"""Whether two points differ by more than chance: statistics against closed forms, answers from real results."""

import json
import math
from math import comb
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from hushsweep.dashboards import QueryError, run_query
from hushsweep.dashboards.queries.compare import compare
from hushsweep.dashboards.queries.paired import BOOTSTRAP, MCNEMAR, bootstrap, compare_pairs, mcnemar
from hushsweep.datasets.results import Store
from hushsweep.sweeps.cli import app
from tests.dashboards.conftest import ACCURACY, plan_of, point, write_trial

MODEL = "torchvision/resnet18"


def ask(results: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["query", *arguments, "--results", str(results)], env={"COLUMNS": "80"}, catch_exceptions=False
    )


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 3), (2, 9), (15, 4), (0, 12), (120, 90)])
def test_mcnemar_adds_up_the_binomial_tail(only_a: int, only_b: int) -> None:
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert mcnemar(only_a, only_b) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_answers_that_are_right_or_wrong_are_compared_by_mcnemar() -> None:
    a = np.array([1.0] * 30 + [0.0] * 4 + [1.0] * 66)
    b = np.array([0.0] * 30 + [1.0] * 4 + [1.0] * 66)
    found = compare_pairs(a, b, is_share=True)
    assert (found.mean, found.test, found.p_value) == (pytest.approx(0.26), MCNEMAR, mcnemar(30, 4))
    assert found.low < 0.26 < found.high
    assert compare_pairs(a, b - 0.5 * b, is_share=True).test == BOOTSTRAP, "some draws were wrong"
    assert compare_pairs(a, b, is_share=False).test == BOOTSTRAP
    same = compare_pairs(a, a, is_share=True)
    assert (same.mean, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_of_many_images_the_interval_is_that_of_the_normal_distribution() -> None:
    differences = np.random.default_rng(1).normal(0.3, 2.0, size=4000)
    mean, low, high, p_value = bootstrap(differences)
    half = 1.959964 * differences.std() / math.sqrt(4000)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.05 * half)
    assert p_value == pytest.approx(2 / 10000)
    assert bootstrap(differences) == (mean, low, high, p_value), "the same numbers, whenever it is asked"
    huge = np.random.default_rng(2).normal(0.0, 1.0, size=20_000)
    mean, low, high, _ = bootstrap(huge)
    assert (low, high) == pytest.approx((mean - 0.01386, mean + 0.01386), abs=0.002)


def test_intervals_cover_and_p_values_reject_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    covered = rejected = agree = 0
    for _ in range(300):
        draws = rng.binomial(10, 0.8, size=(2, 80)) / 10  # paired shares of ten draws, no difference
        found = compare_pairs(*draws, is_share=True)
        covered += found.low <= 0 <= found.high
        rejected += found.p_value < 0.05
        agree += (found.low <= 0 <= found.high) == (found.p_value >= 0.05)
    assert 0.915 <= covered / 300 <= 0.98
    assert 0.02 <= rejected / 300 <= 0.085
    assert agree >= 297, "the interval and the p-value tell the same"


def test_equal_differences_have_no_spread() -> None:
    mean, low, high, p_value = bootstrap(np.full(12, 0.25))
    assert (mean, low, high) == (0.25, 0.25, 0.25)
    assert p_value == 2 / 2**12


def test_real_points_are_compared_by_what_overview_prints(quickstart: Path) -> None:
    found = compare(quickstart, "digits_mlp/gaussian/0.25", "gaussian/0.5")
    rows = {row["quantity"]: row for row in found.rows.to_pylist()}
    top1 = rows["top-1"]
    assert (top1["images"], top1["unit"], top1["test"]) == (599, "fraction", BOOTSTRAP)
    for side, row in (("a", found.a), ("b", found.b)):
        (value,) = run_query(
            quickstart, f"SELECT accuracy FROM overview WHERE point_id = '{row['point_id']}'"
        ).to_pylist()
        assert top1[side] == pytest.approx(value["accuracy"])
    assert top1["difference"] == pytest.approx(top1["a"] - top1["b"])
    assert "A is higher by" in top1["meaning"]
    assert rows["cramer_rao std"]["images"] == 20
    assert "B is higher by" in rows["cramer_rao std"]["meaning"]
    assert "20 images are few" in rows["cramer_rao std"]["meaning"]
    back = {
        row["quantity"]: row
        for row in compare(quickstart, found.b["point_id"], found.a["point_id"][:10]).rows.to_pylist()
    }
    assert back.keys() == rows.keys()
    assert back["top-1"]["difference"] == pytest.approx(-top1["difference"])
    noise = compare(quickstart, "gaussian/0.5", "laplace/0.5", sweep="quickstart").rows.to_pylist()[0]
    assert "no difference is shown" in noise["meaning"]
    learned = compare(quickstart, "none", "conv5/ani/0.2").rows.column("quantity").to_pylist()
    assert "secondary top-1 single" in learned


def test_the_command_prints_it_within_80_columns_and_in_every_format(quickstart: Path) -> None:
    pair = ("compare", "digits_mlp/gaussian/0.25", "gaussian/0.5")
    printed = ask(quickstart, *pair)
    assert printed.exit_code == 0
    assert max(map(len, printed.stdout.splitlines())) <= 80
    assert "top-1, %" in printed.stdout
    assert "not corrected" in printed.stdout
    rows = json.loads(ask(quickstart, *pair, "--format", "json").stdout)
    assert rows == compare(quickstart, *pair[1:]).rows.to_pylist()
    assert ask(quickstart, *pair, "--format", "csv").stdout.count("\n") == len(rows) + 1
    sql = ask(quickstart, "compare", "--show").stdout
    assert "per_image_accuracy" in sql
    one, other = (compare(quickstart, *pair[1:]).a["point_id"], compare(quickstart, *pair[1:]).b["point_id"])
    images = run_query(quickstart, sql, a=one, b=other).to_pylist()
    own = [row for row in images if row["quantity"] == "top-1"]
    assert len({row["image_index"] for row in own}) == len(own) == 599


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "gaussian/0.25"), "expected two points, found 1"),
        (("compare", "gaussian/0.25", "gaussian/0.5", "gaussian/1"), "found 3"),
        (("overview", "gaussian/0.25"), "only compare is about points"),
        (("compare", "gaussian/0.25", "[bold]x"), "no point is called '[bold]x'"),
        (("compare", "gaussian/0.25", "digits_mlp/gaussian/0.25"), "are the same point"),
        (
            ("compare", "gaussian/0.25", "none"),
            "have no images in common: the one was measured on digits test",
        ),
        (("compare", "gaussian/0.25", "gaussian/0.5", "--sweep", "x"), "no sweep 'x'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    quickstart: Path, arguments: tuple[str, ...], said: str
) -> None:
    refused = ask(quickstart, *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""


def test_points_that_share_a_name_are_told_apart_by_id_and_rows_per_image_are_needed(tmp_path: Path) -> None:
    store, entries = Store(tmp_path), []
    for seed in (0, 1):
        entry = point(MODEL, "gaussian", 1.0)
        entry["fields"] |= {"seed": seed}
        entries.append({**entry, "point_id": f"{seed}{'abcdef' * 3}", "label": f"it's [bold] {seed}"})
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    with pytest.raises(QueryError, match="no point has any row yet"):
        compare(tmp_path, "gaussian/1", "none")
    write_trial(store, "t", entries)
    with pytest.raises(
        QueryError, match=r"2 points are called 'gaussian/1'; name A by its id: 0abcdefabcde is it's"
    ):
        compare(tmp_path, "gaussian/1", "none")
    with pytest.raises(QueryError, match=r"have no rows per image in common; 'hushsweep query missing'"):
        compare(tmp_path, "0abc", "1abc")
    images = [
        {
            **{
                "point_id": entry["point_id"],
                "measure_id": ACCURACY,
                "computed_by": "t",
                "image_index": index,
            },
            **{"label": 0, "draws": 1, "hits_top1": int(index < hits), "status": "complete"},
        }
        for entry, hits in zip(entries, (40, 30), strict=True)
        for index in range(50)
    ]
    store.write("per_image/accuracy", "t", images)
    (row,) = compare(tmp_path, "0abc", "1abc").rows.to_pylist()
    assert (row["test"], row["p_value"]) == (MCNEMAR, mcnemar(10, 0))
    printed = ask(tmp_path, "compare", "0abc", "1abc").stdout
    assert "it's [bold] 0" in printed
