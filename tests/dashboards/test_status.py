"""Counts, reasons and estimates."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hushsweep.dashboards import sweep_status
from hushsweep.datasets.results import Store, StoreError
from tests.dashboards.conftest import ACCURACY, HCR, failed, measurements, plan_of, points, write_trial

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
