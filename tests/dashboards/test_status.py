"""Counts, reasons and estimates."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hushsweep.dashboards import sweep_status
from hushsweep.datasets.results import Store, StoreError
from hushsweep.sweeps.cli import app
from tests.dashboards.conftest import ACCURACY, HCR, START, failed, measurements, plan_of, points, write_trial

Fill = Callable[[Path], Store]


def test_a_finished_sweep(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    both, small = sweep_status(store.root)
    assert (both.sweep, both.points, both.done, both.failed, both.missing) == ("both", 20, 20, 0, 0)
    assert (small.sweep, small.points, small.done) == ("small", 5, 5)
    assert (both.seconds_left, both.failures, both.running) == (0.0, (), None)


def test_points_done_failed_and_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = points()[:4]
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    (before,) = sweep_status(tmp_path)
    assert (before.missing, before.images_per_second, before.seconds_left) == (4, None, None)
    write_trial(store, "t", entries[:3], ACCURACY)  # 10 seconds for 1000 images and three points
    write_trial(store, "t", entries[:1], HCR)  # 30 seconds for 16 images and one point
    store.write(
        "measurements", "t.failed", failed(entries[1], entries[1]["measures"][1], "t", "out of memory")
    )
    (status,) = sweep_status(tmp_path, "s")
    assert (status.points, status.done, status.failed, status.missing) == (4, 1, 1, 2)
    (failure,) = status.failures
    assert (failure.label, failure.measure, failure.reason) == (entries[1]["label"], "hcr", "out of memory")
    assert status.images_per_second == pytest.approx(1016 / 40)
    assert status.seconds_left == pytest.approx(10 / 3 + 2 * 30)  # one accuracy, two bounds


def test_two_workers_halve_the_time_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [{**entry, "measures": entry["measures"][:1]} for entry in points()[:4]]
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    for number, entry in enumerate(entries[:2]):
        rows = measurements(entry, entry["measures"][0], f"t{number}")
        store.write("measurements", f"t{number}", [{**row, "worker": f"vm:{number}"} for row in rows])
    (status,) = sweep_status(tmp_path)
    assert status.seconds_left == pytest.approx(2 * 10 / 2)
    assert status.images_per_second == pytest.approx(2 * 1000 / 10)


def test_a_running_sweep_names_its_process(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    with store.lock("small"):
        both, small = sweep_status(store.root)
    assert both.running is None
    assert str(small.running).startswith("process ")


def test_an_unknown_sweep_lists_the_known(tmp_path: Path, fill: Fill) -> None:
    with pytest.raises(StoreError, match="no sweep 'bth'; known: both, small"):
        sweep_status(fill(tmp_path).root, "bth")


def on_nodes(tmp_path: Path, nodes: int) -> Store:
    """A trial of one measure and point per node, in two workers where the number is even."""
    store = Store(tmp_path)
    entries = [{**entry, "measures": entry["measures"][:1]} for entry in points()]
    many = [{**entries[0], "point_id": f"point-{number}"} for number in range(2 * nodes)]
    store.write_sweep("s", spec_text="", plan=plan_of("s", many))
    rows = []
    for number, entry in enumerate(many):
        node = number // 2
        where = {"node": f"node-{node} (10.0.0.{node})", "worker": str(number if node % 2 == 0 else node)}
        rows += [{**row, **where} for row in measurements(entry, entry["measures"][0], f"t{number}")]
    store.write("measurements", "all", rows)
    return store


def test_use_of_nodes(tmp_path: Path) -> None:
    store = on_nodes(tmp_path, 2)
    entry = {**points()[0], "point_id": "point-3", "measures": points()[0]["measures"][:1]}
    broken = failed(entry, entry["measures"][0], "t9", "out of memory")
    later = START + timedelta(hours=1)
    store.write(
        "measurements", "t9", [{**row, "point_id": "point-9", "computed_at": later} for row in broken]
    )
    store.write_sweep(
        "s",
        spec_text="",
        plan=plan_of("s", [{**entry, "point_id": f"point-{number}"} for number in (0, 1, 2, 3, 9)]),
    )
    (status,) = sweep_status(tmp_path)
    two, one, vm = status.nodes
    assert (two.node, two.done, two.failed, two.workers) == ("node-0 (10.0.0.0)", 2, 0, 2)
    assert two.images_per_second == pytest.approx(2 * 1000 / 10)  # two workers at once
    assert (one.done, one.workers, one.images_per_second) == (2, 1, pytest.approx(1000 / 10))
    assert one.last_row_at == START
    assert (vm.node, vm.done, vm.failed, vm.images_per_second, vm.last_row_at) == ("vm", 0, 1, None, later)


def test_seconds_of_a_shard_stand_for_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [{**entry, "measures": entry["measures"][:1]} for entry in points()[:2]]
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    write_trial(store, "t", entries[:1])
    for shard in range(4):
        store.write("per_image/accuracy", f"t.{ACCURACY}.{shard}of4", [])
    (status,) = sweep_status(tmp_path)
    assert status.images_per_second == pytest.approx(1000 / 40)
    assert status.seconds_left == pytest.approx(40)
    assert status.nodes[0].images_per_second == pytest.approx(1000 / 40)


def test_status_prints_ten_nodes_in_80_columns(tmp_path: Path) -> None:
    on_nodes(tmp_path, 64)
    called = CliRunner().invoke(app, ["status", "--results", str(tmp_path)], env={"COLUMNS": "80"})
    assert called.exit_code == 0, called.output
    lines = called.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("node-" in line for line in lines) == 10
    assert "and 54 more" in called.output
    assert re.search(r"node-0 \(10.0.0.0\) .* 2 .* 0 .* 200 .* 2 .* days ago", called.output)
    (found,) = json.loads(
        CliRunner().invoke(app, ["status", "s", "--json", "--results", str(tmp_path)]).output
    )
    assert (found["sweep"], found["done"], len(found["nodes"])) == ("s", 128, 64)
    assert found["nodes"][0]["last_row_at"] == START.isoformat()


def test_long_node_names_do_not_hide_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [{**entry, "measures": entry["measures"][:1]} for entry in points()[:1]]
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    node = "ip-10-0-112-134.eu-central-1.compute.internal (10.0.112.134)"
    rows = measurements(entries[0], entries[0]["measures"][0], "t")
    store.write("measurements", "t", [{**row, "node": node} for row in rows])
    called = CliRunner().invoke(app, ["status", "--results", str(tmp_path)], env={"COLUMNS": "80"})
    assert max(map(len, called.output.splitlines())) <= 80
    assert "(10.0.112.134)" in called.output
    assert "days ago" in called.output


def test_several_sweeps_print_nodes_of_those_that_run(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    assert "by node" not in CliRunner().invoke(app, ["status", "--results", str(tmp_path)]).output
    with store.lock("small"):
        shown = CliRunner().invoke(app, ["status", "--results", str(tmp_path)]).output
    assert "small, measures by node" in shown
    assert "both, measures by node" not in shown
