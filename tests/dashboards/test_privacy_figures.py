"""The trade-off as pictures: what is drawn is what the view frontier holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from hushsweep.dashboards import draw_privacy, frontier, write_report
from hushsweep.dashboards.curves import read_curves
from hushsweep.dashboards.figures import (
    frontier_figure,
    masks_figure,
    pictures_figure,
    read_masks,
    read_pictures,
    read_settings,
)
from hushsweep.datasets.results import Store
from tests.dashboards.conftest import fill_folder
from tests.dashboards.privacy_rows import (
    CLEAN,
    FLOOR,
    METHODS,
    PENALTIES,
    SCALES,
    fill_learned,
    learned_points,
)

GREY = "#a9b1ba"
MISSED = "mnist-gaussian-input-{}-1-1.0"
"""A seed of a level that did not run."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    entries = [entry for entry in learned_points() if entry["point_id"] != MISSED]
    return fill_learned(tmp_path_factory.mktemp("learned"), entries=entries, pictures=True)


def points_of(axis: Axes) -> dict[tuple[float, float], Any]:
    """Marker of every point with error bars, by place."""
    return {
        (float(container.lines[0].get_xdata()[0]), float(container.lines[0].get_ydata()[0])): container.lines[
            0
        ]
        for container in axis.containers
    }


def test_points_are_the_rows_and_those_that_are_beaten_are_grey(store: Store) -> None:
    (setting,) = read_settings(store.root, "learned")
    assert setting.name == ""
    figure = frontier_figure(setting, title="learned")
    rows = [row for row in frontier(store.root, "learned").to_pylist() if row["method"] != "none"]
    for axis, value, flag in zip(
        figure.axes, ("secondary_strongest", "mi_upper"), ("is_pareto", "is_pareto_mi"), strict=True
    ):
        drawn = points_of(axis)
        assert drawn.keys() == {(row[value], row["primary_top1"]) for row in rows}
        assert len({to_hex(line.get_color()) for line in drawn.values()}) == len(METHODS) + 1
        for row in rows:
            line = drawn[row[value], row["primary_top1"]]
            assert (to_hex(line.get_color()) == GREY) == (not row[flag])
            is_hollow = to_hex(line.get_markerfacecolor()) == "#ffffff"
            assert is_hollow == ((row["method"], row["level"]) == ("gaussian", 1.0)) == (row["n_seeds"] < 3)
        assert any(to_hex(line.get_color()) == GREY for line in drawn.values())
    assert figure.axes[1].get_xscale() == "log"


def test_floor_ideal_and_clean_reference_are_drawn(store: Store) -> None:
    (setting,) = read_settings(store.root, "learned")
    figure = frontier_figure(setting, title="learned")
    left, right = figure.axes
    drawn = [line for line in left.lines if len(line.get_xdata())]
    marks = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in drawn}
    assert marks["*"] == (FLOOR, CLEAN)
    assert marks["X"] == (0.99, CLEAN)
    assert [FLOOR, FLOOR] in [list(line.get_xdata()) for line in left.lines]
    for axis in (left, right):
        assert [CLEAN, CLEAN] in [list(line.get_ydata()) for line in axis.lines]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[: len(METHODS)] == sorted(METHODS)
    assert words[len(METHODS) :] == [
        "without noise",
        "no more than 1 point lost",
        "blind floor, 21.6 %",
        "ideal",
        "beaten by another level",
        "seeds missing",
    ]
    assert "mean and standard deviation over 3 seeds" in figure.texts[1].get_text()


def test_error_bars_are_the_standard_deviations(store: Store) -> None:
    (setting,) = read_settings(store.root, "learned")
    left = frontier_figure(setting, title="learned").axes[0]
    rows = {(row["secondary_strongest"], row["primary_top1"]): row for row in setting.rows}
    for container in left.containers:
        row = rows[container.lines[0].get_xdata()[0], container.lines[0].get_ydata()[0]]
        across, along = (bars.get_segments()[0] for bars in container.lines[2])
        assert np.ptp(along[:, 1]) / 2 == pytest.approx(row["primary_std"])
        if row["secondary_std"] > 0:
            assert np.ptp(across[:, 0]) / 2 == pytest.approx(row["secondary_std"])


def test_every_data_set_has_a_picture_of_its_own(tmp_path: Path) -> None:
    entries = learned_points(["ani"], (0,)) + learned_points(["ani"], (0,), dataset="fashion_mnist")
    store = fill_learned(tmp_path / "results", entries=entries)
    assert [setting.name for setting in read_settings(store.root, "learned")] == ["fashion_mnist", "mnist"]
    paths = draw_privacy(store.root, "learned", tmp_path / "figures")
    assert [path.name for path in paths] == ["frontier-1.png", "frontier-2.png"]
    with Image.open(paths[0]) as image:
        assert image.format == "PNG"
        assert image.width > 1.5 * image.height > 800


def test_a_sweep_without_attackers_has_no_picture(tmp_path: Path) -> None:
    store = fill_folder(tmp_path / "results")
    assert draw_privacy(store.root, "both", tmp_path / "figures") == []
    assert not (tmp_path / "figures").exists()


def test_masks_are_drawn_by_method_and_level(store: Store) -> None:
    masks = read_masks(store.root, "learned")
    assert [one.method for one in masks] == sorted(METHODS)
    assert all(set(one.titles) == set(SCALES if one.method == "gaussian" else PENALTIES) for one in masks)
    ani = masks[0]
    assert ani.originals.keys() == {3, 7}
    assert {kind for _, kind, _ in ani.pixels} == {"mask", "transformed"}
    assert {kind for _, kind, _ in masks[-1].pixels} == {"transformed"}
    brightest = [int(ani.pixels[3, "mask", level].max()) for level in PENALTIES]
    assert brightest == sorted(brightest, reverse=True)
    assert ani.titles[1.0].startswith("penalty 1\n97.")
    figure = masks_figure(masks, title="learned")
    assert figure is not None
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 4 + 3 * 2 * 5 + 4  # one image: originals, three methods with masks, one without
    assert any(np.array_equal(pixels, ani.pixels[3, "mask", 1.0][0]) for pixels in shown)
    alone = masks_figure(masks[:1], title="learned")
    assert alone is not None
    assert len(alone.axes) == 2 * (1 + 2 * 5)  # both images find room
    assert masks_figure([], title="learned") is None


def test_masks_are_no_pictures_of_bounds(store: Store) -> None:
    pictures = read_pictures(store.root, "learned")
    assert {one.kind for one in pictures} == {"original", "mask", "transformed"}
    for curve in read_curves(store.root, "learned"):
        assert pictures_figure(pictures, curve, []) is None


def test_the_report_tells_the_trade_off_its_drop_and_its_cost(store: Store, tmp_path: Path) -> None:
    report = write_report(store.root, "learned", tmp_path)
    assert [path.name for path in report.figures] == ["tradeoff.png", "frontier.png", "masks.png"]
    page = report.page.read_text(encoding="utf-8")
    for words in (
        "## What a server still learns",
        "### Secondary drop at no more than 1 point of primary loss",
        "### Cost of the client's network",
        "| ani | input | 226000 | 4520000 | 0.05 |",
        "FROM secondary_drop(most := 0.01)",
    ):
        assert words in page
    assert "## Bounds" not in page
