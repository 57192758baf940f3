"""Networks and mechanisms side by side: the view overview, the ready-made queries, the metrics that runs share."""

import json
import re
from pathlib import Path
from typing import Any

import mlflow
import pytest
from typer.testing import CliRunner

from hushsweep.dashboards import mirror, overview, ready_made, run_query
from hushsweep.datasets.results import Store
from hushsweep.sweeps.cli import app
from tests.dashboards.conftest import HCR, MODELS, failed, fill_folder, plan_of, point, write_trial
from tests.dashboards.privacy_rows import FLOOR, learned_points, numbers, rows_of

SWIN = "timm/swin_tiny_patch4_window7_224"
BOUNDS = "b3" * 8
SEARCHES = {"dct": 0.4, "jacobian": 0.7}


def bounds_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """HCR bounds of two searches that grow with the level."""
    (row, *_) = rows_of(entry)
    common = {**row, "measure_id": BOUNDS, "measure": "bounds", "options": "{}", "n": 8, "stderr": None}
    statistics = {
        f"hcr_{search}_std_median": factor * entry["fields"]["level"] for search, factor in SEARCHES.items()
    }
    statistics |= {"hcr_dct_std_mean": 99.0, "cramer_rao_std_median": 77.0}
    return [
        {
            **common,
            "statistic": name,
            "value": value,
            "unit": "normalised pixel",
            "status": "complete",
            "reason": None,
        }
        for name, value in statistics.items()
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Dithering of two networks with HCR bounds, and learned noise of the same two with attackers and bounds."""
    store = fill_folder(tmp_path_factory.mktemp("overview"))
    entries = []
    for model in MODELS:
        for entry in learned_points(("ani", "gaussian"), (0, 1), dataset="celeba"):
            entry["fields"]["model"] = model
            entry["point_id"] += model[:5]
            entry["curve_id"] += model[:5]
            if entry["method"] == "ani":
                entry["measures"].append({"measure_id": BOUNDS, "name": "bounds", "options": {}})
            entries.append(entry)
    store.write_sweep("learned", spec_text="", plan=plan_of("learned", entries))
    rows = [row for entry in entries for row in rows_of(entry)]
    rows += [row for entry in entries if entry["method"] == "ani" for row in bounds_rows(entry)]
    store.write("measurements", "learned", rows)
    return store


def test_one_query_shows_accuracy_bound_and_attacker_of_both_networks(store: Store) -> None:
    rows = run_query(store.root, ready_made()["overview"]).to_pylist()
    assert {row["model"] for row in rows} == set(MODELS)
    for model in MODELS:
        mine = [row for row in rows if row["model"] == model]
        dithered = [row for row in mine if row["dataset"] == "imagefolder" and row["method"] == "gaussian"]
        ani = [row for row in mine if row["method"] == "ani"]
        assert [row["level"] for row in ani] == [0.1, 0.3, 1.0, 1.5, 3.0]
        assert all(row["accuracy"] and row["hcr_std"] for row in dithered + ani)
        assert all(row["secondary"] is None for row in dithered)
        assert all(row["secondary"] > row["floor"] == FLOOR for row in ani)
        assert {row["points"] for row in ani} == {2}, "seeds"
        assert {row["caveat"] for row in dithered} == {"memorised, not validation"}


def test_a_bound_is_the_largest_of_its_searches(store: Store) -> None:
    rows = [row for row in overview(store.root, "learned").to_pylist() if row["method"] == "ani"]
    assert {(row["hcr_search"], row["hcr_images"], row["hcr_unit"]) for row in rows} == {
        ("jacobian", 8, "normalised pixel")
    }
    assert [row["hcr_std"] for row in rows] == pytest.approx([0.7 * row["level"] for row in rows])


def test_accuracy_is_lost_from_what_nothing_was_done_to(store: Store) -> None:
    learned = overview(store.root, "learned").to_pylist()
    (reference,) = {row["accuracy"] for row in learned if row["method"] == "none"}
    for row in learned:
        assert row["accuracy_loss"] == pytest.approx(reference - row["accuracy"])
    # without such a point, from the network without its noise
    for row in overview(store.root, "both").to_pylist():
        assert row["accuracy_loss"] == pytest.approx(MODELS[row["model"]] - row["accuracy"])


def test_learned_networks_without_a_reference_are_held_to_the_best(tmp_path: Path) -> None:
    """Their own accuracy without noise says nothing of what they lost."""
    entries = [entry for entry in learned_points(("ani",), (0,)) if entry["method"] == "ani"]
    store = Store(tmp_path)
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    store.write("measurements", "s", [row for entry in entries for row in rows_of(entry)])
    best = max(numbers(entry)["primary"] for entry in entries)
    for row in overview(tmp_path, "s").to_pylist():
        assert row["accuracy_loss"] == pytest.approx(best - row["accuracy"])


def test_a_point_whose_bound_failed_is_there_without_it(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), point(SWIN, "gaussian", 1.0)
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    write_trial(store, "t", [entry])
    measure = next(one for one in entry["measures"] if one["measure_id"] == HCR)
    store.write("measurements", "f", failed(entry, measure, "t", "out of memory"))
    (row,) = overview(tmp_path, "s").to_pylist()
    assert (row["method"], row["hcr_std"], row["hcr_search"]) == ("gaussian", None, None)
    assert row["accuracy"] > 0
    failures = run_query(tmp_path, ready_made()["failures"]).to_pylist()
    assert [(row["reason"], row["results"]) for row in failures] == [("out of memory", 1)]
    missing = run_query(tmp_path, ready_made()["missing"]).to_pylist()
    assert [(row["measure"], row["reason"]) for row in missing] == [("hcr", "out of memory")]


def test_the_best_level_hides_most_within_the_loss(store: Store) -> None:
    for loss in (None, 0.05):
        rows = run_query(store.root, ready_made()["best"], sweep="learned", loss=loss).to_pylist()
        assert {(row["model"], row["method"]) for row in rows} == {
            (model, method) for model in MODELS for method in ("ani", "gaussian")
        }
        allowed = run_query(store.root, ready_made()["overview"], sweep="learned").to_pylist()
        for row in rows:
            same = [
                one["secondary"]
                for one in allowed
                if (one["model"], one["method"]) == (row["model"], row["method"])
                and one["accuracy_loss"] <= (loss or 0.01)
            ]
            assert row["secondary"] == min(same)
    # without attackers, the largest bound
    dithered = run_query(store.root, ready_made()["best"], sweep="both", loss=0.1).to_pylist()
    assert {row["level"] for row in dithered if row["method"] == "gaussian"} == {1.0}


@pytest.mark.parametrize("name", sorted(ready_made()))
def test_ready_made_queries_say_what_they_answer_and_keep_to_a_sweep(
    name: str, store: Store, tmp_path: Path
) -> None:
    text = ready_made()[name]
    assert re.match(r"/\* [A-Z].* \*/\n", text)
    whole = run_query(store.root, text)
    one = run_query(store.root, text, sweep="small")
    assert one.schema == whole.schema
    assert len(one) <= len(whole)
    assert run_query(store.root, text, sweep="no such sweep").num_rows == 0
    Store(tmp_path)
    assert run_query(tmp_path, text).num_rows == 0, "an empty store has an empty answer"


def test_slowest_counts_a_pass_once(store: Store) -> None:
    rows = run_query(store.root, ready_made()["slowest"], sweep="both").to_pylist()
    both = [row for row in rows if row["model"] == SWIN and row["mechanism"] == "gaussian"]
    assert [(row["measure"], row["passes"], row["seconds"]) for row in both] == [
        ("hcr", 1, 30.0),
        ("accuracy", 1, 10.0),
    ]


def test_the_command_knows_them_by_name(store: Store) -> None:
    def call(*arguments: str) -> Any:
        return CliRunner().invoke(
            app, ["query", *arguments, "--results", str(store.root)], catch_exceptions=False
        )

    listed = call("--list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == sorted(ready_made())
    shown = call("best", "--show").stdout
    assert shown.strip() == ready_made()["best"].strip()
    answer = call("best", "--sweep", "learned", "--loss", "0.05", "--format", "json")
    assert (
        json.loads(answer.stdout)
        == run_query(store.root, ready_made()["best"], sweep="learned", loss=0.05).to_pylist()
    )
    copied = call(shown, "--format", "json")
    assert {row["sweep"] for row in json.loads(copied.stdout)} >= {"learned"}
    wrong = call("overvew")
    assert wrong.exit_code == 2
    assert "did you mean 'overview'? Known: attacks, best, compare, failures" in wrong.output
    assert call().exit_code == 2
    asked = [
        json.loads(call(*words, "--format", "json").stdout)
        for words in (("tradeoff", "--sweep", "small"), ("FROM tradeoff WHERE sweep = 'small'",))
    ]
    # neither says in which order
    one, other = (sorted(rows, key=lambda row: row["point_id"]) for rows in asked)
    assert one == other, "the name of a view asks for its rows"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("query be", ["best", "best_accuracies"]),
        ("query --sweep le", ["learned"]),
        ("status sm", ["small"]),
        ("query per_image_h", ["per_image_hcr"]),
    ],
)
def test_the_shell_completes_queries_views_and_sweeps(store: Store, words: str, offered: list[str]) -> None:
    command, _, incomplete = words.rpartition(" ")
    line = f"hushsweep {command} --results {store.root} {incomplete}"
    if "--sweep" in command:
        line = f"hushsweep query --results {store.root} --sweep {incomplete}"
    environment = {
        "_HUSHSWEEP_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    found = CliRunner().invoke(app, prog_name="hushsweep", env=environment)
    assert found.stdout.split() == offered


def test_variables_are_values_and_never_sql(store: Store) -> None:
    assert run_query(store.root, ready_made()["overview"], sweep="x' OR 1 = 1 --").num_rows == 0


def test_runs_of_all_sweeps_share_names_in_mlflow(store: Store) -> None:
    report = mirror(store.root)
    assert report.error is None
    mlflow.set_tracking_uri(report.tracking_uri)
    runs = mlflow.search_runs(experiment_names=["both", "learned"])
    runs = runs[runs["tags.mlflow.parentRunId"].notna()]
    assert set(runs["params.model"]) == set(MODELS)
    names = ["metrics.accuracy", "metrics.accuracy_loss", "metrics.hcr_std", "metrics.secondary"]
    ani = runs[runs["params.mechanism"] == "ani@input"]
    assert len(ani) == 4
    assert ani[names].notna().all(axis=None)
    dithered = runs[runs["params.dataset"] == "imagefolder"]
    assert dithered[names[:3]].notna().all(axis=None)
    assert dithered["metrics.secondary"].isna().all()
