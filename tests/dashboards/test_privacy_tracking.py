"""In MLflow every curve is a run and every point of the trade-off a step with all its numbers."""

from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from hushsweep.dashboards import mirror
from hushsweep.datasets.results import Store
from tests.dashboards.conftest import plan_of
from tests.dashboards.privacy_rows import (
    ATTACKERS,
    FLOOR,
    PENALTIES,
    learned_point,
    learned_points,
    numbers,
    rows_of,
)

METHODS = ["ani", "cloak, frozen server", "cloak, retrained"]
METRICS = (
    "secondary_single",
    "secondary_mask",
    "secondary_average",
    "mi_upper",
    "mi_lower",
    "primary",
    "floor",
)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A mirrored sweep of three methods and two seeds, of which one point failed."""
    store, entries = Store(tmp_path_factory.mktemp("learned")), learned_points(METHODS, (0, 1))
    store.write_sweep("learned", spec_text="", plan=plan_of("learned", entries))
    failed = learned_point("ani", 3.0, 1)["point_id"]
    rows = [
        row
        for entry in entries
        for row in rows_of(entry, status="failed" if entry["point_id"] == failed else "complete")
    ]
    store.write("measurements", "t", rows)
    report = mirror(store.root)
    assert (report.written, report.error) == (1 + 3 * 2, None)
    return report.tracking_uri


def test_runs_are_found_by_what_a_server_learns(tracking_uri: str) -> None:
    mlflow.set_tracking_uri(tracking_uri)
    runs = mlflow.search_runs(experiment_names=["learned"], filter_string="metrics.secondary_strongest < 0.5")
    names = {"conv5 · ani@input · penalty · seed 0", "conv5 · ani@input · penalty · seed 1"}
    assert set(runs["tags.mlflow.runName"]) == names
    assert set(runs["metrics.floor"]) == {FLOOR}
    everything = mlflow.search_runs(experiment_names=["learned"])
    assert everything["tags.mlflow.parentRunId"].notna().sum() == 7
    assert "conv5 · cloak@input (server frozen) · penalty · seed 0" in set(everything["tags.mlflow.runName"])


def test_every_step_is_a_point_of_the_trade_off(tracking_uri: str) -> None:
    mlflow.set_tracking_uri(tracking_uri)
    client = MlflowClient(tracking_uri)
    for method, name in (("ani", "ani@input"), ("cloak, retrained", "cloak@input (server scratch)")):
        query = f"tags.`mlflow.runName` = 'conv5 · {name} · penalty · seed 0'"
        (run_id,) = mlflow.search_runs(experiment_names=["learned"], filter_string=query)["run_id"]
        found = [numbers(learned_point(method, level, 0)) for level in PENALTIES]
        strongest = [max(one["single"], one["mask"], one["average"]) for one in found]
        expected = {name: [one[name.removeprefix("secondary_")] for one in found] for name in METRICS}
        expected |= {"secondary_strongest": strongest, "penalty": list(PENALTIES)}
        for metric, values in expected.items():
            history = sorted(client.get_metric_history(run_id, metric), key=lambda one: one.step)
            assert [one.step for one in history] == [0, 1, 2, 3, 4]
            assert [one.value for one in history] == pytest.approx(values)


def test_what_is_logged_of_other_sweeps_is_logged_here_too(tracking_uri: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(tracking_uri)
    client = MlflowClient(tracking_uri)
    query = "tags.`mlflow.runName` = 'conv5 · ani@input · penalty · seed 1'"
    (run_id,) = mlflow.search_runs(experiment_names=["learned"], filter_string=query)["run_id"]
    metrics = client.get_run(run_id).data.metrics
    assert {"level", "log10_level", "top1", "top1_stderr", "clean_top1", "mi_upper_full"} <= metrics.keys()
    for measure_id in ATTACKERS:  # several measures have it
        assert f"secondary_top1.{measure_id[:8]}" in metrics
    # the point that failed has a level and no number of the trade-off
    assert [one.step for one in client.get_metric_history(run_id, "secondary_strongest")] == [0, 1, 2, 3]
    assert len(client.get_metric_history(run_id, "level")) == 5
    path = client.download_artifacts(run_id, "rows.parquet", str(tmp_path))
    rows = pq.read_table(path).to_pylist()
    assert {row["penalty"] for row in rows} == set(PENALTIES)
    assert {row["measure"] for row in rows} == {"accuracy", "secondary", "information"}
