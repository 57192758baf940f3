"""A sweep as one folder that can be handed on: report.md with tables, their SQL and the figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from matplotlib.figure import Figure

from hushsweep.dashboards.curves import Curve, read_curves
from hushsweep.dashboards.dp_report import dp_sections
from hushsweep.dashboards.figures import (
    bounds_figure,
    epsilons_figure,
    histogram_figure,
    map_figure,
    pictures_figure,
    privacy_figures,
    read_maps,
    read_pictures,
    save_figure,
    tradeoff_figure,
)
from hushsweep.dashboards.privacy_report import privacy_sections
from hushsweep.dashboards.promises import is_bound, place, promise
from hushsweep.dashboards.queries import bounds, dp, tradeoff
from hushsweep.dashboards.queries.output import escape_markdown
from hushsweep.dashboards.report_tables import quote, table, varying
from hushsweep.dashboards.series import Series, read_series
from hushsweep.dashboards.status import sweep_status
from hushsweep.datasets.results import StoreError
from hushsweep.datasets.results.files import write_atomically

_SETTING = ("dataset", "split", "model", "weights", "cut", "mechanism", "seed")
_NUMBERS = (
    "images",
    "median_std_bound_median",
    "median_std_bound_mean",
    "median_std_bound_low_mean",
    "median_std_estimate_median",
    "mean_mse_bound",
    "mean_mse_bound_grey",
    "mean_mse_estimate",
    "success_bound",
    "median_rank",
    "mean_non_identifiable",
    "mean_unresolved",
    "median_radius",
    "median_distance",
    "images_without",
    "reason",
)
_PROVENANCE = """
SELECT
    measure, count(DISTINCT point_id) AS points, max(n) AS images, min(computed_at) AS first, max(computed_at) AS last,
    string_agg(DISTINCT device, ', ' ORDER BY device) AS devices,
    string_agg(DISTINCT hushsweep_version, ', ' ORDER BY hushsweep_version) AS hushsweep,
    string_agg(DISTINCT torch_version, ', ' ORDER BY torch_version) AS torch,
    string_agg(DISTINCT left(git_commit, 12), ', ' ORDER BY left(git_commit, 12)) AS commits,
    string_agg(DISTINCT left(data_fingerprint, 12), ', ' ORDER BY left(data_fingerprint, 12)) AS data,
    string_agg(DISTINCT left(weights_digest, 12), ', ' ORDER BY left(weights_digest, 12)) AS weights
FROM measurements
WHERE sweep = {sweep}
GROUP BY measure
ORDER BY measure
""".strip()
_ACCURACY = """
SELECT {columns}, level, top1, top1_stderr, clean_top1, accuracy_images AS images
FROM tradeoff
WHERE sweep = {sweep} AND top1 IS NOT NULL
ORDER BY ALL
""".strip()
_BOUND = """
SELECT {columns}
FROM bounds
WHERE sweep = {sweep} AND bound = {bound}
ORDER BY {order}
""".strip()
_UNITS = (
    "`std_...` is a standard deviation in normalised pixels, `mse_...` a mean squared error per pixel in the square of "
    "that, `..._grey` in squared grey levels 0..255. `mean_` and `median_` are over images; what follows them, as in "
    "`std_bound_median`, is over the modes of one image. `images_without` counts images without a number, `reason` "
    "says why; an empty cell is a number that does not exist."
)


class Report(NamedTuple):
    """What a report consists of: report.md and the figures beside it."""

    page: Path
    figures: tuple[Path, ...]


def write_report(results: Path | str, sweep: str, folder: Path | str) -> Report:
    """Write report.md and its figures about `sweep` into `folder`; files of an earlier report are replaced.

    Raises:
        StoreError: no results, no such sweep, nothing computed yet, or the folder cannot be written.
    """
    curves = read_curves(results, sweep)
    (status,) = sweep_status(results, sweep)
    if not any(row["status"] == "complete" for curve in curves for row in curve.rows.to_pylist()):
        raise StoreError(f"sweep {sweep!r}: nothing is computed yet that a report could show; run it first")
    series = read_series(results, sweep)
    figures = list[Path]()
    lines = [f"# {escape_markdown(sweep)}\n"]
    open_points = f"; {status.failed} failed, {status.missing} missing" if status.points > status.done else ""
    lines.append(f"{status.done} of {status.points} points complete{open_points}.\n")
    lines += [
        f"- failed: {escape_markdown(reason)}\n" for reason in sorted({f.reason for f in status.failures})
    ]

    def show(name: str, words: str, figure: Figure) -> None:
        figures.append(Path(folder) / f"{name}.png")
        save_figure(figure, figures[-1])
        lines.append(f"![{words}]({name}.png)\n")

    utility = tradeoff(results, sweep)
    overview = tradeoff_figure(utility.to_pylist(), curves, title=sweep)
    if overview is not None:
        show("tradeoff", "accuracy and HCR bound against noise", overview)
    trade = privacy_sections(results, sweep)
    if not trade:  # its tables have the accuracy, too
        lines += _accuracy(results, sweep, utility)
    else:
        lines.append("## What a server still learns\n")
        for name, words, figure in privacy_figures(results, sweep):
            show(name, words, figure)
        lines += trade
    private = dp(results, sweep)
    lines += dp_sections(results, sweep, private)
    epsilons = epsilons_figure(private.to_pylist(), title=sweep)
    if epsilons is not None:
        show("epsilons", "accuracy against epsilon", epsilons)
    lines += _bounds(results, sweep)
    pictures = read_pictures(results, sweep)
    for number, curve in enumerate(curves, start=1):
        own = series.get(curve.curve_id, [])
        maps = read_maps(results, sweep, curve, own)
        drawn = {
            ("bounds", "every bound against noise"): bounds_figure(own, curve, utility.to_pylist()),
            ("modes", "bounds per mode"): map_figure(maps, curve),
            ("histograms", "distribution of the bounds over modes"): histogram_figure(maps, curve),
            ("pictures", "images under noise"): pictures_figure(pictures, curve, own),
        }
        if any(drawn.values()):
            lines.append(f"## {escape_markdown(curve.name)}\n")
        for (name, words), own_figure in drawn.items():
            if own_figure is not None:
                show(f"curve-{number}-{name}", words, own_figure)
    lines += _caveats(curves, series)
    lines += ["## Provenance\n", *table(results, _PROVENANCE.format(sweep=quote(sweep)))]
    page = Path(folder) / "report.md"
    write_atomically(page, lambda stream: stream.write("\n".join(lines).encode()))
    return Report(page, tuple(figures))


def _accuracy(results: Path | str, sweep: str, utility: pa.Table) -> list[str]:
    if utility.column("top1").null_count == len(utility):
        return []
    columns = varying(utility, [name for name in _SETTING if name in utility.column_names])
    sql = _ACCURACY.format(columns=", ".join(columns), sweep=quote(sweep))
    return ["## Accuracy\n", *table(results, sql)]


def _bounds(results: Path | str, sweep: str) -> Iterator[str]:
    """One section per bound: what it promises, its numbers, the SQL that gave them."""
    rows = bounds(results, sweep)
    if len(rows) == 0:
        return
    yield f"## Bounds\n\n{_UNITS}\n"
    keys = varying(rows, (*_SETTING, "measure_id"))
    names = rows.column("bound").to_pylist()
    for bound in sorted(set(names), key=place):
        own = rows.filter(pa.array([name == bound for name in names]))
        filled = [n for n in ("search", *_NUMBERS) if own.column(n).null_count < len(own)]
        if set(own.column("images_without").to_pylist()) == {0}:
            filled.remove("images_without")
        columns = [*keys, "level", *filled]
        order = [*keys, "level", *(["search"] if "search" in filled else [])]
        sql = _BOUND.format(
            columns=", ".join(columns), sweep=quote(sweep), bound=quote(bound), order=", ".join(order)
        )
        told = sorted({words for words in own.column("holds_for").to_pylist() if words})
        yield f"### {escape_markdown(promise(bound).title)}\n"
        yield f"{promise(bound).sentence} {_holds_for(told)}\n"
        yield from table(results, sql)


def _holds_for(told: Sequence[str]) -> str:
    words = "; ".join(map(escape_markdown, told))
    if not any(map(is_bound, told)):
        return f"**{words[:1].upper() + words[1:] or 'No bound'}.**"
    return f"**Holds for {words}.**"


def _caveats(curves: Sequence[Curve], series: dict[str, list[Series]]) -> list[str]:
    """Say what the numbers must not be read as."""
    told = {row["caveat"] for curve in curves for row in curve.rows.to_pylist() if row["caveat"]}
    points = [escape_markdown(text) for text in sorted(told)]
    promises = [str(one.holds_for) for group in series.values() for one in group if is_bound(one.holds_for)]
    if any(words.startswith("unbiased") for words in promises):
        points.append(
            "A bound for unbiased estimators says nothing about an attacker with prior knowledge, who accepts a bias "
            "and may come closer."
        )
    if any(words.startswith("every estimator") for words in promises):
        points.append(
            "A bound for every estimator is an average: an attacker that always answers with one fixed image has no "
            "error where that image is the right one."
        )
    if series:
        points.append(
            "Everything holds for one noisy copy of the features. Of k copies with fresh Gaussian noise, read the "
            "bounds at the noise divided by the square root of k."
        )
        points.append(
            "Non-identifiable is the share of a mode that the features do not depend on: no unbiased estimator exists "
            "there, and no number stands for it. Unresolved is the share that rounding hides; bounds leave it out."
        )
        points.append(
            "Maps and histograms show one noise level and the strongest search of each bound; pictures clip to the "
            "valid grey levels."
        )
    return ["## Caveats\n", "".join(f"- {point}\n" for point in points)] if points else []
