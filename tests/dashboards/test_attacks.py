"""Attacks beside bounds, as queries, report, dashboard and MLflow show them: what they say follows from the rows."""

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from typer.testing import CliRunner

from hushsweep.dashboards import mirror, reconstructions, run_query, sandwich, write_report
from hushsweep.dashboards.app import cells
from hushsweep.dashboards.app.cells import Chosen, Page
from hushsweep.dashboards.attacks import KINDS, Line, panels_of, span
from hushsweep.dashboards.charts import attacks_chart, save_chart
from hushsweep.dashboards.curves import read_curves
from hushsweep.dashboards.figures import attacks_figure
from hushsweep.dashboards.figures.style import save_figure
from hushsweep.dashboards.queries.ready_made import ready_made
from hushsweep.dashboards.server import local_tracking_uri
from hushsweep.datasets.results import Store
from hushsweep.sweeps import run
from hushsweep.sweeps.cli import app
from tests.dashboards.attack_rows import (
    ATTACKS,
    BLIND,
    CANDIDATES,
    HOLDS_FOR,
    SANDWICHES,
    bound,
    dfil,
    error,
    fill_attacks,
)
from tests.dashboards.conftest import LEVELS

SWEEP = "attacked"
REAL = """
name: digits-attacked
dataset: {name: digits}
model: {name: digits_mlp, weights: train, epochs: 4}
mechanism:
  - {name: none}
  - {name: gaussian, noise_scale: [0.5, 2]}
measures:
  - {name: accuracy}
  - {name: bounds, images: 6, bounds: [cramer_rao, dfil]}
  - {name: reconstruction, attack: [blind, ridge], images: 100, candidates: 20, pictures: 2}
  - {name: reconstruction, attack: decoder, epochs: 1, levels: [0.2, 3], images: 50}
  - {name: sandwich, attack: [blind, ridge], images: 6, draws: 4}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill_attacks(tmp_path_factory.mktemp("attacked"))


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Where the ridge is below a bound that it cannot be below."""
    return fill_attacks(tmp_path_factory.mktemp("wrong"), violated=["d1" * 8], mechanisms=["gaussian"])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "sweep.yaml").write_text(REAL)
    run(folder / "sweep.yaml", results=folder / "results", local=True, mirror=False)
    return folder / "results"


def ask(store: Store, sql: str) -> list[dict[str, Any]]:
    return list(run_query(store.root, sql).to_pylist())


def test_attacks_are_called_by_what_sets_them_apart(store: Store) -> None:
    rows = ask(store, "FROM attack_names")
    names = {row["measure_id"]: row["label"] for row in rows}
    assert names == {key: value[0] for key, value in {**ATTACKS, **SANDWICHES}.items()}
    assert {row["attack"] for row in rows if row["is_oracle"]} == {"bayes"}
    assert {row["queries"] for row in rows} == {1, 10}


def test_every_attack_has_its_numbers_and_the_blind_floor(store: Store) -> None:
    rows = reconstructions(store.root, SWEEP).to_pylist()
    assert len(rows) == 2 * len(LEVELS) * len(ATTACKS)
    for row in rows:
        mse = error(ATTACKS[row["measure_id"]][2], row["level"])
        assert row["attack"] == ATTACKS[row["measure_id"]][0]
        found = [row[name] for name in ("mse", "mse_stderr", "mse_blind", "mse_worst_off", "psnr")]
        assert found == pytest.approx([mse, 0.01, BLIND, mse / 2, 20 - mse])
        assert (row["candidates"], row["status"], row["reason"]) == (CANDIDATES, "complete", None)


def test_an_attack_is_held_only_against_bounds_that_speak_of_its_error(store: Store) -> None:
    rows = sandwich(store.root, SWEEP).to_pylist()
    assert Counter(row["bound"] for row in rows) == dict.fromkeys(["dfil", *HOLDS_FOR], 2 * len(LEVELS))
    for row in rows:
        level = row["level"]
        if (
            row["bound"] == "dfil"
        ):  # neither the oracle, nor ten queries, nor the mask, though their errors are less
            assert row["attack"] == "decoder, epochs 20"
            assert row["attack_mse"] == pytest.approx(error(0.5, level))
            assert row["mse_bound"] == pytest.approx(dfil(level))
            assert row["holds_for"] == "unbiased estimators"
            assert (row["flag"] is not None) == (error(0.5, level) < dfil(level))
            assert row["flag"] is None or "legitimate" in row["flag"]
        else:
            assert row["attack"] == "decoder"
            assert row["attack_mse"] == pytest.approx(error(0.65, level))
            assert row["mse_bound"] == pytest.approx(bound(row["bound"], level))
            assert f"{row['holds_for']}; {row['averages_over']}" == HOLDS_FOR[row["bound"]]
            assert row["flag"] is None
        assert row["gap"] == pytest.approx(row["attack_mse"] / row["mse_bound"])


def test_a_violated_bound_is_told_everywhere(wrong: Store, tmp_path: Path) -> None:
    rows = [row for row in sandwich(wrong.root, SWEEP).to_pylist() if row["bound"] == "van_trees"]
    assert {row["flag"] for row in rows} == {"violated: one of the two programs is wrong"}
    assert {row["attack"] for row in rows} == {"ridge"}
    (_, meaning) = next(
        (row["bound"], row["meaning"])
        for row in ask(wrong, ready_made()["attacks"])
        if row["holds_for"] == "every estimator"
    )
    assert meaning.startswith("violated")
    text = write_report(wrong.root, SWEEP, tmp_path / "report").page.read_text()
    assert "violated: one of the two programs is wrong.** Do not quote numbers of these points." in text
    page, chosen = Page.open(str(wrong.root)), Chosen(sweeps=[SWEEP])
    (curve,) = page.attacked(chosen).values()
    words = cells.attacks(page, curve).words
    assert f"violated: one of the two programs is wrong (van_trees) at {len(LEVELS)} of the levels" in words


def test_the_ready_query_says_what_a_gap_means(store: Store) -> None:
    rows = ask(store, ready_made()["attacks"])
    assert (
        len(rows) == 2 * len(LEVELS) * 2
    )  # per level the strongest for every estimator, and for unbiased ones
    for row in rows:
        if row["holds_for"] == "every estimator":
            assert row["bound"] == "van_trees"
            assert row["meaning"].startswith("open: no attack has less than 1/")
            assert float(row["meaning"].split("1/")[1].split()[0]) == pytest.approx(row["gap"], rel=0.01)
        elif row["gap"] < 1:
            assert "this bound does not stop it" in row["meaning"]
        else:
            assert "an unbiased attack has no less than" in row["meaning"]
    found = CliRunner().invoke(app, ["query", "attacks", "--results", str(store.root)])
    assert found.exit_code == 0
    assert "meaning" in found.output


def views_of(store: Store, mechanism: str) -> list[list[dict[str, Any]]]:
    return [
        [row for row in view(store.root, SWEEP).to_pylist() if row["mechanism"] == mechanism]
        for view in (reconstructions, sandwich)
    ]


def test_every_panel_is_about_one_quantity_and_bounds_come_first(store: Store) -> None:
    panels = panels_of(*views_of(store, "gaussian"))
    assert [panel.about for panel in panels] == [
        "on the images",
        "averaged over the image blurred by the prior",
        "averaged over the image and the image moved",
    ]
    lines = panels[0].lines
    assert len({line.name for line in lines}) == len(lines) == len(ATTACKS) + 1
    assert Counter(line.kind for line in lines) == {"unbiased": 1, "attack": 7, "oracle": 1, "blind": 1}
    assert lines[0].kind == "unbiased"
    assert named(lines, "ridge").points == pytest.approx({level: error(0.6, level) for level in LEVELS})
    low, high = span(lines)
    assert low < min(value for line in lines for value in line.points.values())
    assert high > BLIND
    for panel, name in zip(panels[1:], ("van_trees", "two_point"), strict=True):
        assert [line.kind for line in panel.lines] == ["every", "attack", "blind"]
        assert panel.lines[0].points == pytest.approx({level: bound(name, level) for level in LEVELS})
        best = named(panel.lines, "decoder")
        assert best.points == pytest.approx({level: error(0.65, level) for level in LEVELS})
        assert panel.lines[2].points == pytest.approx(dict.fromkeys(LEVELS, BLIND))


def test_lines_of_several_options_have_names_of_their_own(store: Store) -> None:
    _, beside = views_of(store, "gaussian")
    more = [{**row, "queries": 10, "mse_bound": row["mse_bound"] / 10} for row in beside]
    for panel in panels_of([], [*beside, *more])[1:]:
        assert len({line.name for line in panel.lines}) == len(panel.lines) == 5


def named(lines: list[Line], name: str) -> Line:
    (found,) = [line for line in lines if line.name == name]
    return found


number = st.one_of(st.none(), st.just(0.0), st.floats(1e-30, 1e30))


@given(st.lists(st.tuples(st.sampled_from(["ridge", "blind", "bayes"]), number, number), max_size=8))
def test_only_what_a_logarithmic_axis_can_show_is_drawn(found: list[tuple[str, Any, Any]]) -> None:
    rows = [
        {"attack": name, "is_oracle": name == "bayes", "level": level, "mse": mse, "n": 3}
        for name, level, mse in found
    ]
    lines = [line for panel in panels_of(rows, []) for line in panel.lines]
    drawable = {name for name, level, mse in found if (level or 0) > 0 and (mse or 0) > 0}
    assert {line.name.partition(":")[0] for line in lines} == drawable
    assert all(line.kind in KINDS and line.points for line in lines)
    if lines:
        low, high = span(lines)
        assert 0 < low < high


def test_pictures_are_drawn(store: Store, tmp_path: Path) -> None:
    curve = next(one for one in read_curves(store.root, SWEEP) if one.fields["mechanism"] == "laplace")
    rows, beside = views_of(store, "laplace")
    panels = panels_of(rows, beside)
    figure = attacks_figure(panels, curve)
    assert figure is not None
    for axis, panel in zip(figure.axes, panels, strict=True):
        for drawn, line in zip(axis.get_lines(), panel.lines, strict=True):
            assert list(drawn.get_ydata()) == pytest.approx(list(line.points.values()))
    (legend,) = figure.legends
    names = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert names == list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    save_figure(figure, tmp_path / "attacks.png")
    assert attacks_figure([], curve) is None
    chart = attacks_chart(rows, beside)
    assert chart is not None
    data = [row for rows in chart.to_dict()["datasets"].values() for row in rows]
    assert {row["line"] for row in data if row["is_bound"]} == {
        line.name for panel in panels for line in panel.lines if line.kind in ("every", "unbiased")
    }
    save_chart(chart, tmp_path / "attacks.svg")
    for about in ("on the images", "and the image moved", "blurred by the prior"):
        assert about.split()[-1] in (tmp_path / "attacks.svg").read_text()
    assert attacks_chart(rows, []) is not None
    assert attacks_chart([], beside) is not None
    assert attacks_chart([], []) is None


def test_a_report_has_the_pictures_the_tables_and_what_they_must_not_be_read_as(
    store: Store, tmp_path: Path
) -> None:
    report = write_report(store.root, SWEEP, tmp_path / "report")
    text = report.page.read_text()
    for name in ("curve-1-attacks.png", "curve-2-attacks.png", "curve-1-reconstructions.png"):
        assert f"({name})" in text
        assert (tmp_path / "report" / name).stat().st_size > 10_000
    assert "### Attacks beside bounds" in text
    for caveat in (
        "a better attack may exist",
        "an oracle and no attack",
        "the attack is biased, which is legitimate",
    ):
        assert caveat in text.partition("## Caveats")[2]
    page = write_report(store.root, SWEEP, tmp_path / "report.html").page.read_text()
    assert "What attacks reconstruct" in page


def test_the_dashboard_has_the_attacks_and_their_pictures(store: Store) -> None:
    page, chosen = Page.open(str(store.root)), Chosen(sweeps=[SWEEP])
    curves = page.attacked(chosen)
    assert len(curves) == 2
    for curve in curves.values():
        shown = cells.attacks(page, curve)
        assert shown.chart is not None
        assert "legitimate (dfil) at" in shown.words
        assert "No reconstruction at all" in shown.words
        assert "FROM reconstructions" in shown.sql
    assert "a reconstruction attack" in cells.attacks(page, None).words
    gallery = cells.gallery(page, chosen).words
    assert "ridge" in gallery
    assert "decoder, epochs 20" in gallery


def test_mlflow_names_numbers_by_their_attack(store: Store) -> None:
    mirror(store.root, SWEEP)
    client = MlflowClient(local_tracking_uri(store.root))
    (experiment,) = [one for one in client.search_experiments() if one.name == SWEEP]
    runs = client.search_runs([experiment.experiment_id], "metrics.`sandwich_ridge_two_point_gap` > 0")
    assert len(runs) == 2
    metrics = runs[0].data.metrics
    top = LEVELS[-1]
    assert metrics["reconstruction_decoder_epochs_20_mse"] == pytest.approx(error(0.5, top))
    assert metrics["reconstruction_ridge_10_queries_psnr"] == pytest.approx(20 - error(0.3, top))
    assert metrics["sandwich_decoder_van_trees_attack_mse"] == pytest.approx(error(0.65, top))


def test_a_sweep_without_attacks_has_none_of_it(quickstart: Path, tmp_path: Path) -> None:
    assert reconstructions(quickstart, "quickstart").num_rows == 0
    assert sandwich(quickstart, "quickstart").num_rows == 0
    text = write_report(quickstart, "quickstart", tmp_path / "report").page.read_text()
    assert "What attacks reconstruct" not in text


def test_views_of_a_real_sweep_are_what_its_images_add_up_to(real: Path) -> None:
    rows = reconstructions(real, "digits-attacked").to_pylist()
    assert Counter((row["attack"], row["status"]) for row in rows) == {
        ("blind", "complete"): 3,
        ("ridge", "complete"): 3,
        ("decoder, all levels", "complete"): 2,
        ("decoder, all levels", "not_applicable"): 1,
    }
    (none,) = [row for row in rows if row["status"] == "not_applicable"]
    assert none["reason"].startswith("a decoder for many levels needs additive noise of one size at the cut")
    files = f"{real}/per_image/{{}}/**/*.parquet"
    means = duckdb.sql(f"""
        SELECT point_id, measure_id, avg(mse), max(candidates) FROM '{files.format("reconstruction")}'
        WHERE status = 'complete' GROUP BY ALL
    """).fetchall()
    found = {(row["point_id"], row["measure_id"]): row for row in rows if row["mse"] is not None}
    assert len(means) == len(found) == 8
    for point_id, measure_id, mse, candidates in means:
        row = found[point_id, measure_id]
        assert (row["mse"], row["candidates"]) == (pytest.approx(mse, rel=1e-6), candidates)
    beside = [row for row in sandwich(real, "digits-attacked").to_pylist() if row["bound"] == "van_trees"]
    assert {row["level"] for row in beside} == {0.5, 2.0}
    for row in beside:
        ((error_, least),) = duckdb.sql(f"""
            SELECT avg(attack_mse), avg(mse_bound) FROM '{files.format("sandwich")}'
            WHERE attack = '{row["attack"]}' AND bound = 'van_trees' AND point_id = '{row["point_id"]}'
        """).fetchall()
        assert row["attack_mse"] == pytest.approx(error_, rel=1e-6)
        assert row["mse_bound"] == pytest.approx(least, rel=1e-6)
        assert row["gap"] > 1
        assert row["flag"] is None
