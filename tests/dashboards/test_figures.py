"""The picture shows the numbers of the rows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hushsweep.dashboards import draw_tradeoff, tradeoff
from hushsweep.dashboards.curves import read_curves
from hushsweep.dashboards.figures import tradeoff_figure
from hushsweep.datasets.results import Store, StoreError
from tests.dashboards.conftest import ACCURACY, HCR, LEVELS, plan_of, point, points, write_trial

Fill = Callable[[Path], Store]


def test_the_lines_are_the_rows(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    rows, curves = tradeoff(store.root, "both").to_pylist(), read_curves(store.root, "both")
    figure = tradeoff_figure(rows, curves, title="both")
    assert figure is not None
    left, right = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [curve.name for curve in curves]
    for axis, value in ((left, "top1"), (right, "std_bound_median")):
        assert axis.get_xscale() == "log"
        assert len(axis.containers) == 4
        for container, curve in zip(axis.containers, curves, strict=True):
            own = [row for row in rows if row["curve_id"] == curve.curve_id]
            assert list(container.lines[0].get_xdata()) == list(LEVELS)
            assert list(container.lines[0].get_ydata()) == [row[value] for row in own]
            if axis is right:  # a median bound has no standard error
                assert not container.has_yerr
                continue
            (bars,) = container.lines[2]
            (low, high) = bars.get_segments()[0][:, 1]
            assert (high - low) / 2 == pytest.approx(own[0]["top1_stderr"])
    dashed = [line.get_ydata()[0] for line in left.lines if line.get_linestyle() == "--"]
    assert sorted(dashed) == [0.93, 0.93, 0.97, 0.97]
    texts = [text.get_text() for text in figure.texts]
    assert texts == [
        "both",
        "imagefolder/val · 1,000 images · bounds on 16 images · memorised, not validation",
    ]


def test_the_file_is_an_opaque_png_of_two_panels_and_replaces(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path / "results")
    path = tmp_path / "new" / "figure.png"
    for _ in range(2):
        assert draw_tradeoff(store.root, "both", path) == path
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 1.5 * image.height > 1000
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73), (0xCC, 0x79, 0xA7)} <= colours
    assert [entry.name for entry in path.parent.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(("measure", "title"), [(ACCURACY, "Top-1 accuracy"), (HCR, "Median HCR bound")])
def test_a_panel_without_numbers_is_left_out(tmp_path: Path, measure: str, title: str) -> None:
    store = Store(tmp_path)
    store.write_sweep("s", spec_text="", plan=plan_of("s", points()))
    write_trial(store, "t", points()[:7], measure)
    figure = tradeoff_figure(tradeoff(tmp_path, "s").to_pylist(), read_curves(tmp_path, "s"), title="s")
    assert figure is not None
    (axis,) = figure.axes
    assert axis.get_title(loc="left").startswith(title)


def test_an_accuracy_of_0_is_drawn_and_a_bound_of_0_is_not(tmp_path: Path, fill: Fill) -> None:
    store = fill(tmp_path)
    curves = read_curves(store.root, "small")
    rows = tradeoff(store.root, "small").to_pylist()
    rows[-1] |= {"top1": 0.0, "top1_stderr": 0.0}
    rows[0]["std_bound_median"] = 0.0
    figure = tradeoff_figure(rows, curves, title="small")
    assert figure is not None
    left, right = (axis.containers[0].lines[0] for axis in figure.axes)
    assert list(left.get_xdata()) == list(LEVELS)
    assert left.get_ydata()[-1] == 0
    assert list(right.get_xdata()) == list(LEVELS[1:])
    without = tradeoff_figure([{**row, "std_bound_median": 0.0} for row in rows], curves, title="small")
    assert without is not None
    assert len(without.axes) == 1


def test_nothing_to_draw_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_sweep("s", spec_text="", plan=plan_of("s", points()))
    for _ in range(2):
        with pytest.raises(
            StoreError, match="no accuracy or HCR bound at a positive noise level to draw yet"
        ):
            draw_tradeoff(tmp_path, "s", tmp_path / "s.png")
        zero = point("torchvision/resnet18", "gaussian", 0.0)
        store.write_sweep("s", spec_text="", plan=plan_of("s", [zero]))
        write_trial(store, "t", [zero])
    assert not (tmp_path / "s.png").exists()


def test_names_with_mathematics_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = points()[0]
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    path = write_trial(store, "t", [entry])
    rows = store.read("measurements").to_pylist()
    odd = {"model": "odd_{$:\\frac$", "caveat": "costs $1 or {", "dataset": "$x_"}
    store.write("measurements", path.stem, [{**row, **odd} for row in rows])
    draw_tradeoff(tmp_path, "s", tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 10_000
