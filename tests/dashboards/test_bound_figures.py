"""The pictures of the bounds show the numbers of the rows."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from hushsweep.dashboards import tradeoff
from hushsweep.dashboards.curves import Curve, read_curves
from hushsweep.dashboards.figures import (
    bounds_figure,
    histogram_figure,
    map_figure,
    pictures_figure,
    read_maps,
    read_pictures,
)
from hushsweep.dashboards.figures.bounds import line_style
from hushsweep.dashboards.series import Series, read_series
from hushsweep.datasets.results import Store
from tests.dashboards.bound_rows import (
    BOUNDS,
    IMAGES,
    MMSE,
    MODE_BOUNDS,
    SIDE,
    entry_of,
    fill_bounds,
    ids,
    mode_std,
    picture_rows,
    write_bounds,
)
from tests.dashboards.conftest import LEVELS, plan_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill_bounds(tmp_path_factory.mktemp("strong"))


def gaussian(store: Store) -> tuple[Curve, list[Series]]:
    curve = next(c for c in read_curves(store.root, "strong") if "gaussian" in c.name)
    return curve, read_series(store.root, "strong")[curve.curve_id]


def test_every_bound_is_a_line_of_its_rows(store: Store) -> None:
    curve, series = gaussian(store)
    figure = bounds_figure(series, curve, tradeoff(store.root, "strong").to_pylist())
    assert figure is not None
    accuracy, errors, chances = figure.axes
    assert accuracy.get_title(loc="left").startswith("Top-1 accuracy")
    lines = {tuple(line.get_ydata()): line for line in errors.lines}
    assert len(lines) == len(errors.lines) == 9  # of ten bounds, one is a chance
    for bound, search, _, size in MODE_BOUNDS:
        expected = tuple(
            np.median([np.median(mode_std(size, level, n)) for n in range(IMAGES)]) for level in LEVELS
        )
        (line,) = [line for values, line in lines.items() if values == pytest.approx(expected)]
        assert list(line.get_xdata()) == list(LEVELS)
        is_thin = (bound, search) in {("barankin", "dct"), ("hcr", "lsqr")}
        assert (line.get_linewidth() < 1) == is_thin == (line.get_label() == "_nolegend_")
        assert line.get_linestyle() == "-"
    van_trees = tuple(0.12 * level / (1 + level / 8) for level in LEVELS)
    (line,) = [line for values, line in lines.items() if values == pytest.approx(van_trees)]
    assert line.get_linestyle() == "--"
    assert [tuple(line.get_ydata()) for line in chances.lines] == [pytest.approx((1, 1, 0.6, 0.4, 0.3))]
    assert errors.get_xscale() == errors.get_yscale() == chances.get_xscale() == "log"


def test_the_legend_says_whom_a_bound_holds_for(store: Store) -> None:
    curve, series = gaussian(store)
    figure = bounds_figure(series, curve, [])
    assert figure is not None
    assert len(figure.axes) == 2  # without accuracy
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [
        "Cramér-Rao: for unbiased estimators",
        "Barankin (jacobian): for unbiased estimators",
        "Hammersley-Chapman-Robbins (jacobian): for unbiased estimators",
        "Fisher information (1/dFIL): for unbiased estimators; average over the pixels",
        "van Trees: for every estimator; average over the image blurred by the prior",
        "Two-point (Le Cam): for every estimator; average over the image and the image moved",
        f"Linear-Gaussian Bayes level: {MMSE}",
        "Reconstruction robustness: for every attacker, if each of the images is equally likely",
    ]


def test_bounds_have_their_own_colour_and_estimates_are_hollow(store: Store) -> None:
    _, series = gaussian(store)
    strongest = [one for one in series if one.is_strongest]
    assert len({line_style(one)["color"] for one in strongest}) == len(strongest)
    assert {one.bound for one in strongest if line_style(one).get("markerfacecolor") == "white"} == {"mmse"}


def test_what_is_zero_is_named_and_not_drawn(store: Store) -> None:
    curve, series = gaussian(store)
    (first,) = [one for one in series if one.bound == "cramer_rao"]
    first.errors.update(dict.fromkeys(LEVELS, 0.0))
    figure = bounds_figure(series, curve, [])
    assert figure is not None
    assert "zero and so not drawn: Cramér-Rao" in " ".join(figure.texts[1].get_text().split())
    assert bounds_figure([first], curve, []) is None
    assert bounds_figure([], curve, []) is None


def test_maps_are_the_modes_at_the_middle_level(store: Store) -> None:
    curve, series = gaussian(store)
    maps = read_maps(store.root, "strong", curve, series)
    assert [(one.series.bound, one.series.search) for one in maps] == [
        ("cramer_rao", None),
        ("barankin", "jacobian"),
        ("hcr", "jacobian"),
    ]
    assert {(one.level, one.images) for one in maps} == {(LEVELS[2], IMAGES)}
    np.testing.assert_allclose(maps[0].std, mode_std(1.1, LEVELS[2], 2))
    assert maps[0].non_identifiable is not None
    assert maps[1].non_identifiable is None
    figure = map_figure(maps, curve)
    assert figure is not None
    images = [axis.images[0] for axis in figure.axes if axis.images]
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.images]
    assert titles == [
        "Cramér-Rao",
        "Barankin (jacobian)",
        "Hammersley-Chapman-Robbins\n(jacobian)",
        "non-identifiable share",
    ]
    np.testing.assert_allclose(images[0].get_array(), maps[0].std[0])
    np.testing.assert_allclose(images[3].get_array(), maps[0].non_identifiable[0])
    assert len({image.norm for image in images[:3]}) == 1  # one scale: the maps can be compared


def test_a_mode_without_a_number_stays_empty(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), entry_of(1.0)
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    write_bounds(store, "t", [entry])
    common = {**ids(entry, "t"), "bound": "cramer_rao", "basis": "dct", "channel": 0, "n": 1}
    rows = [
        {**common, "row": 0, "column": 0, "std_bound": 0.0, "non_identifiable": 1.0},
        {**common, "row": 1, "column": 1, "std_bound": 2.0, "non_identifiable": 0.0},
    ]
    store.write("modes", f"t.{BOUNDS}", rows)
    (curve,) = read_curves(store.root, "s")
    series = read_series(store.root, "s")[curve.curve_id]
    (only,) = read_maps(store.root, "s", curve, series)
    np.testing.assert_array_equal(only.std, [[[0, np.nan], [np.nan, 2]]])
    figure = map_figure([only], curve)
    assert figure is not None
    assert figure.axes[0].images[0].get_array().mask.tolist() == [[True, True], [True, False]]
    empty = [Series(**{**vars(only.series), "bound": "x"})]
    assert map_figure(read_maps(store.root, "s", curve, empty), curve) is None
    assert histogram_figure([], curve) is None


def test_histograms_hold_all_modes_and_the_low_block(store: Store) -> None:
    curve, series = gaussian(store)
    maps = read_maps(store.root, "strong", curve, series)
    figure = histogram_figure(maps, curve)
    assert figure is not None
    everything, low = figure.axes
    assert low.get_title(loc="left") == "Modes of the 8 x 8 lowest frequencies"
    for axis in (everything, low):
        heights = [patch.get_xy()[:, 1] for patch in axis.patches]
        assert len(heights) == 3
        # A step outline passes every bin's height twice.
        assert [height.sum() / 2 for height in heights] == [pytest.approx(1.0)] * 3
    edges = low.patches[-1].get_xy()
    assert edges[edges[:, 1] > 0][:, 0].max() < edges[:, 0].max()  # the high frequencies are not in the block
    colours = {to_hex(patch.get_edgecolor()).upper() for patch in everything.patches}
    assert colours == {line_style(one.series)["color"] for one in maps}


def test_pictures_show_the_original_once_and_the_strongest_search(store: Store) -> None:
    curve, series = gaussian(store)
    pictures = read_pictures(store.root, "strong")
    figure = pictures_figure(pictures, curve, series)
    assert figure is not None
    stored = {
        (row["image_index"], row["kind"], row["bound"], level): np.frombuffer(row["pixels"], np.uint8)
        for level in LEVELS
        for row in picture_rows(entry_of(level), "t")
    }
    shown = [axis.images[0].get_array().ravel() for axis in figure.axes]
    kinds = [("bound", "cramer_rao"), ("bound", "barankin_jacobian"), ("moved", "two_point")]
    expected = []
    for image in (0, 1):
        expected.append(stored[image, "original", None, LEVELS[0]])
        expected += [stored[image, *kind, level] for kind in kinds for level in LEVELS]
    assert len(shown) == len(expected)
    for found, wanted in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert [a.get_title() for a in figure.axes[:6]] == ["original", "0.25", "0.5", "1", "2", "4"]


def test_bytes_that_fit_no_image_are_left_out(tmp_path: Path) -> None:
    store, entry = Store(tmp_path), entry_of(1.0)
    store.write_sweep("s", spec_text="", plan=plan_of("s", [entry]))
    write_bounds(store, "t", [entry])
    rows = picture_rows(entry, "t", images=[0])
    for row in rows:
        row["channels"] = 3
    whole = {**rows[1], "channels": 3, "pixels": bytes(3 * SIDE * SIDE)}
    store.write("pictures", f"t.{BOUNDS}", [*rows, {**whole, "image_index": 5}])
    (picture,) = read_pictures(store.root, "s")
    assert (picture.image_index, picture.pixels.shape) == (5, (3, SIDE, SIDE))
    (curve,) = read_curves(store.root, "s")
    figure = pictures_figure([picture], curve, [])
    assert figure is not None
    assert figure.axes[0].texts[0].get_text() == "none"  # its original is not there
    assert figure.axes[1].images[0].get_array().shape == (SIDE, SIDE, 3)
