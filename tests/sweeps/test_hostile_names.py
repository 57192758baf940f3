"""Names from strangers: nothing is created outside the results folder, and the answer is a sentence."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from hushsweep.dashboards import draw_tradeoff, mirror, write_report
from hushsweep.datasets.results import Store, StoreError
from hushsweep.sweeps.cli import app
from tests.dashboards.conftest import fill_folder, measurements, plan_of, point

FIELDS = {
    "name": {},
    "dataset.name": {},
    "dataset.root": {"dataset.name": "mnist"},
    "dataset.split": {},
    "dataset.task": {},
    "dataset.label_column": {"dataset.name": "parquet", "dataset.root": "."},
    "dataset.secondary_column": {"dataset.name": "parquet", "dataset.root": "."},
    "model.name": {},
    "model.weights": {},
    "cut": {},
    "mechanism.name": {},
    "mechanism.at": {},
    "mechanism.calibration": {"mechanism.target_accuracy_loss": 0.1, "mechanism.noise_scale": None},
    "measures.name": {},
}
"""Fields whose text might become a path, each with what makes the rest of the file ask for it."""
SPLITS = ("digits", "imagefolder", "parquet", "mnist")
PARTS = (
    *("..", ".", "", " ", "a", "a.", "~", "-rf", "CON", "$HOME", "*", "%2e%2e", "x" * 300),
    *("\u00e9", "\uff0e\uff0e", "\u2215"),  # look like other letters, '..' and '/'
    *("\0", "\n", "\x1b[2J", "\ud800"),
)
names = st.one_of(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join),
    st.sampled_from(
        ["{outside}/x", "{outside}", "file://{outside}/x", "..\\x", "../x.safetensors", "../x.pt"]
    ),
    st.text(max_size=8),
)
thorough = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder so deep that a few steps up stay where the test looks; beside it one to be hit from outside."""
    folder = tmp_path / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "outside"))
    return folder


def contents(folder: Path, besides: Path) -> dict[str, bytes | None]:
    """Everything below a folder with its bytes, but what is below ``besides``."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path != besides and besides not in path.parents
    }


def sweep_with(field: str, value: object, **others: object) -> dict[str, Any]:
    sweep: dict[str, Any] = {
        "name": "small",
        "dataset": {"name": "digits", "limit": 4},
        "model": {"name": "digits_mlp", "weights": "random"},
        "mechanism": {"name": "gaussian", "noise_scale": 1},
        "measures": {"name": "accuracy"},
    }
    for key, setting in {**others, field: value}.items():
        section, _, inner = key.partition(".")
        if not inner:
            sweep[section] = setting
        elif setting is None:
            sweep[section].pop(inner)
        else:
            sweep[section][inner] = setting
    return sweep


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@thorough
@given(field=st.sampled_from(sorted(FIELDS)), name=names, data=st.sampled_from(SPLITS))
def test_no_name_in_a_sweep_file_leaves_the_results_folder(
    below: Path, tmp_path: Path, field: str, name: str, data: str
) -> None:
    others = {"dataset.name": data, "dataset.root": "."} if field == "dataset.split" else FIELDS[field]
    sweep = sweep_with(field, name.replace("{outside}", str(tmp_path / "outside")), **others)
    (below / "small.yaml").write_text(json.dumps(sweep))
    before = contents(tmp_path, below / "results")
    for command in (["plan"], ["run", "--local", "--no-mlflow"]):
        found = call(*command, "small.yaml", "--results", "results")
        assert contents(tmp_path, below / "results") == before
        if found.exit_code in (0, 1):
            continue  # it may be used: "a.", or no calibration at all
        assert found.exit_code == 2, found.output
        assert found.stderr
        for line in found.stderr.splitlines():
            assert line.startswith("error: small.yaml:"), found.stderr


@thorough
@given(name=names)
def test_no_name_given_to_the_store_leaves_it(below: Path, tmp_path: Path, name: str) -> None:
    name = name.replace("{outside}", str(tmp_path / "outside"))
    store = Store(below / "results")
    before = contents(tmp_path, store.root)
    calls: list[Callable[[], object]] = [
        lambda: store.write("measurements", name, []),
        lambda: store.write(name, "x", []),
        lambda: store.read("measurements", names=[name]),
        lambda: store.read(name),
        lambda: store.write_sweep(name, spec_text="", plan={"points": []}),
        lambda: store.plan(name),
        lambda: store.running(name),
        lambda: store.lock(name).__enter__(),
    ]
    refused = 0
    for one in calls:
        try:
            one()
        except StoreError as error:
            refused += 1
            assert "\n" not in str(error)
        assert contents(tmp_path, store.root) == before
    inside = [path.relative_to(store.root).parts for path in store.root.rglob("*")]
    assert all(parts[0] in {"hushsweep.json", ".lock", "measurements", "sweeps"} for parts in inside)
    assert refused == len(calls) or name.isascii(), "names are of plain letters"


@settings(thorough, max_examples=20)
@given(name=names)
def test_no_name_given_to_a_command_leaves_the_results_folder(below: Path, tmp_path: Path, name: str) -> None:
    name = name.replace("{outside}", str(tmp_path / "outside")).replace(
        "\0", ""
    )  # no argument can hold a NUL
    fill_folder(below / "results")
    before = contents(tmp_path, below / "nothing")
    for command in (["status"], ["report", "-o", "report"], ["mirror"]):
        found = call(*command, "--results", "results", "--", name)
        if name:
            assert (found.exit_code, found.stderr.count("error: ")) == (2, 1), (command, name, found.output)
            assert found.stderr.count("\n") == 1
            assert contents(tmp_path, below / "nothing") == before


def test_names_in_rows_become_no_paths(below: Path, tmp_path: Path) -> None:
    """Somebody else's results: what is drawn, reported and mirrored of them stays where it was asked for."""
    results, outside = below / "results", tmp_path / "outside"
    store, entries = Store(results), []
    hostile = (("../../x", f"{outside}/x", "..", "x" * 300), ("a\0b", "<script>", "a\nb", "/"))
    for number, named in enumerate(hostile):
        entry = point("torchvision/resnet18", "gaussian", 1.0)
        entry["fields"] |= dict(zip(("model", "mechanism", "dataset", "cut"), named, strict=True))
        entry |= {"point_id": f"p{number}", "curve_id": named[0], "label": named[0]}
        for measure in entry["measures"]:
            rows = measurements({**entry, "fields": {**entry["fields"], **ORDINARY}}, measure, "t")
            store.write(
                "measurements",
                f"t{number}.{measure['measure_id']}",
                [{**row, **entry["fields"]} for row in rows],
            )
        entries.append(entry)
    store.write_sweep("s", spec_text="", plan=plan_of("s", entries))
    before = contents(tmp_path, results)
    write_report(results, "s", results / "report")
    draw_tradeoff(results, "s", results / "tradeoff.png")
    report = mirror(results, "s")
    assert report.error is None, report
    assert contents(tmp_path, results) == before
    assert (results / "report" / "report.md").exists()
    assert not any("x" * 300 in name for _, _, files in os.walk(results) for name in files)


ORDINARY = {"model": "torchvision/resnet18", "mechanism": "gaussian"}
"""Names for which rows can be made up."""
