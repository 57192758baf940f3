"""What a report says of a sweep: sections of words, tables with their SQL, and figures."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from hushsweep.dashboards.charts import (
    accuracy_chart,
    bounds_chart,
    epsilon_chart,
    frontier_chart,
    modes_chart,
    modes_sql,
)
from hushsweep.dashboards.curves import Curve, name_lines, read_curves
from hushsweep.dashboards.figures import (
    bounds_figure,
    epsilons_figure,
    frontier_figure,
    histogram_figure,
    map_figure,
    masks_figure,
    middle_point,
    pictures_figure,
    read_maps,
    read_masks,
    read_pictures,
    read_settings,
    tradeoff_figure,
)
from hushsweep.dashboards.figures.pictures import Picture
from hushsweep.dashboards.promises import is_bound, place, promise
from hushsweep.dashboards.queries import bounds, dp, frontier, overview, privacy, run_query, tradeoff
from hushsweep.dashboards.queries.output import escape_markdown
from hushsweep.dashboards.reports.attacks import Attacks, attack_caveats, attack_sections, read_attacks
from hushsweep.dashboards.reports.dp import dp_sections
from hushsweep.dashboards.reports.model import Figure, Part, Points, Section, Text, Words
from hushsweep.dashboards.reports.privacy import privacy_sections
from hushsweep.dashboards.reports.tables import quote, table, varying
from hushsweep.dashboards.series import Series, read_series
from hushsweep.dashboards.status import SweepStatus, sweep_status
from hushsweep.datasets.results import Store, StoreError

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
_FAILED = """
SELECT measure, reason, count(DISTINCT point_id) AS points, min(level) AS lowest_level, max(level) AS highest_level
FROM measurements
WHERE sweep = {sweep} AND status = 'failed'
GROUP BY measure, reason
ORDER BY points DESC, measure, reason
""".strip()
_HANDLING = (
    "A click on the legend picks a curve, shift adds one; dragging moves, shift and the wheel zooms, a double click "
    "resets."
)
_CELLS = 32
"""Blocks of modes a side in a heat map on a page."""
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


def read_sections(results: Path | str, sweep: str, *, detailed: int | None = None) -> list[Section]:
    """Read what a report of `sweep` says, the report's own heading first.

    Args:
        results: The results folder.
        sweep: The sweep.
        detailed: Number of curves with maps, histograms and pictures; all without it.

    Raises:
        StoreError: no results, no such sweep, or nothing computed and nothing failed yet.
    """
    curves = read_curves(results, sweep)
    (status,) = sweep_status(results, sweep)
    is_computed = any(row["status"] == "complete" for curve in curves for row in curve.rows.to_pylist())
    if not is_computed and not status.failures:
        raise StoreError(f"sweep {sweep!r}: nothing is computed yet that a report could show; run it first")
    sections = [_heading(sweep, status)]
    if status.failures:
        sections.append(_failures(results, sweep))
    utility = tradeoff(results, sweep)
    series = read_series(results, sweep)
    attacks = read_attacks(results, sweep)
    if is_computed:
        sections[0].parts.extend(_overview(results, sweep, utility, curves))
        trade = privacy_sections(results, sweep)
        if trade:
            sections += _with_figures(results, sweep, trade)
        else:  # its tables have the accuracy, too
            sections += _accuracy(results, sweep, utility)
        sections += _differential_privacy(results, sweep)
        pictures = read_pictures(results, sweep)
        sections += attack_sections(results, sweep, attacks, curves, pictures, detailed)
        sections += _bounds(results, sweep)
        of_bounds = [one for one in pictures if one.kind != "reconstruction"]
        sections += _of_curves(results, sweep, curves, series, utility, of_bounds, detailed)
    sections += _caveats(results, sweep, curves, series, attacks)
    sections.append(Section("Provenance", [table(results, _PROVENANCE.format(sweep=quote(sweep)))]))
    text = Store(results, create=False).spec_text(sweep)
    if text:
        sections.append(Section("Sweep file", [Text(text, "yaml")]))
    return sections


def _heading(sweep: str, status: SweepStatus) -> Section:
    open_points = f"; {status.failed} failed, {status.missing} missing" if status.points > status.done else ""
    parts: list[Part] = [Words(f"{status.done} of {status.points} points complete{open_points}.")]
    if status.failures:
        reasons = sorted({failure.reason or "no reason given" for failure in status.failures})
        parts.append(Points(tuple(f"failed: {escape_markdown(reason)}" for reason in reasons)))
    return Section(escape_markdown(sweep), parts, level=1)


def _failures(results: Path | str, sweep: str) -> Section:
    words = (
        "What failed has no number below, and the next run tries it again. A point that failed in one measure may be "
        "complete in others."
    )
    return Section("Failures", [Words(words), table(results, _FAILED.format(sweep=quote(sweep)))])


def _overview(results: Path | str, sweep: str, utility: pa.Table, curves: Sequence[Curve]) -> list[Part]:
    rows = utility.to_pylist()
    points = overview(results, sweep).to_pylist()
    shown: list[Part] = [
        Figure(
            name="tradeoff",
            words="accuracy and HCR bound against noise",
            picture=lambda: tradeoff_figure(rows, curves, title=sweep),
            chart=lambda: accuracy_chart(rows, name_lines(curves)),
            chart_words=(
                "accuracy against noise. Bands hold 95 % of what the number of images leaves open; dashed: without "
                f"noise. {_HANDLING}"
            ),
            sql=f"FROM tradeoff WHERE sweep = {quote(sweep)}",
        )
    ]
    if any(row["hcr_std"] is not None for row in points):
        shown.append(
            Figure(
                name="tradeoff-hcr",
                words="accuracy against the HCR bound. The line joins points that no other beats in both",
                chart=lambda: frontier_chart(points, "hcr_std"),
                sql=f"FROM overview WHERE sweep = {quote(sweep)}",
            )
        )
    return shown


def _with_figures(results: Path | str, sweep: str, trade: list[Section]) -> list[Section]:
    """The trade-off's own figures above its first table."""
    rows = frontier(results, sweep).to_pylist()
    settings = read_settings(results, sweep)
    masks = read_masks(results, sweep) if settings else []
    figures = list[Part]()
    for number, setting in enumerate(settings, start=1):
        end = f"-{number}" if len(settings) > 1 else ""
        title = " · ".join(filter(None, (sweep, setting.name)))
        about = f": {setting.name}" if setting.name else ""
        own = [row for row in rows if row["setting"] == setting.setting]
        sql = f"FROM frontier WHERE sweep = {quote(sweep)} AND setting = {quote(setting.setting)}"
        figures.append(
            Figure(
                name=f"frontier{end}",
                words=f"primary accuracy against secondary accuracy and information{escape_markdown(about)}",
                picture=partial(frontier_figure, setting, title=title),
                chart=partial(frontier_chart, own),
                chart_words=(
                    f"primary accuracy against what the strongest attacker reads{escape_markdown(about)}. The line "
                    "joins points that no other beats in both; dotted: the blind guess"
                ),
                sql=sql,
            )
        )
        if any(row["mi_upper"] is not None for row in own):
            figures.append(
                Figure(
                    name=f"frontier{end}-information",
                    words=f"primary accuracy against information{escape_markdown(about)}",
                    chart=partial(frontier_chart, own, "mi_upper"),
                    sql=sql,
                )
            )
        shown = [one for one in masks if one.setting == setting.setting]
        words = f"what learned noise does to images{escape_markdown(about)}"
        figures.append(
            Figure(name=f"masks{end}", words=words, picture=partial(masks_figure, shown, title=title))
        )
    first, *others = trade
    return [Section(first.title, [*figures, *first.parts], first.level), *others]


def _differential_privacy(results: Path | str, sweep: str) -> list[Section]:
    private = dp(results, sweep)
    found = dp_sections(results, sweep, private)
    rows = private.to_pylist()
    for section in found:
        section.parts.append(
            Figure(
                name="epsilons",
                words="accuracy against epsilon",
                picture=lambda: epsilons_figure(rows, title=sweep),
                chart=lambda: epsilon_chart(rows),
                sql=f"FROM dp WHERE sweep = {quote(sweep)}",
            )
        )
    return found


def _of_curves(
    results: Path | str,
    sweep: str,
    curves: Sequence[Curve],
    series: dict[str, list[Series]],
    utility: pa.Table,
    pictures: list[Picture],
    detailed: int | None,
) -> Iterator[Section]:
    """The figures of every curve that has bounds or pictures."""
    rows = defaultdict[str, list[dict[str, Any]]](list)
    for row in bounds(results, sweep).to_pylist():
        rows[row["curve_id"]].append(row)
    accuracies = utility.to_pylist()
    drawn = {one.curve_id for one in pictures if one.kind != "original"} | series.keys()
    shown = [(number, curve) for number, curve in enumerate(curves, start=1) if curve.curve_id in drawn]
    for position, (number, curve) in enumerate(shown):
        own = series.get(curve.curve_id, [])
        parts: list[Part] = [
            Figure(
                name=f"curve-{number}-bounds",
                words="every bound against noise",
                picture=partial(bounds_figure, own, curve, accuracies),
                chart=partial(bounds_chart, rows[curve.curve_id]),
                chart_words=(
                    "every bound against noise. Solid: for unbiased estimators; dashed: for every attacker; dotted: no "
                    "bound; thin: weaker searches"
                ),
                sql=f"FROM bounds WHERE sweep = {quote(sweep)} AND curve_id = {quote(curve.curve_id)}",
            )
        ]
        if detailed is None or position < detailed:
            parts += _detail(results, sweep, f"curve-{number}", curve, own, pictures)
        elif position == detailed:
            parts.append(
                Words(
                    f"Maps, histograms and pictures of the first {detailed} of {len(shown)} curves are in this file; "
                    "`hushsweep report SWEEP -o DIR` draws those of all."
                )
            )
        yield Section(escape_markdown(curve.name), parts)


def _detail(
    results: Path | str, sweep: str, name: str, curve: Curve, own: list[Series], pictures: list[Picture]
) -> Iterator[Figure]:
    maps = read_maps(results, sweep, curve, own)
    point = middle_point(results, sweep, curve)
    sql = modes_sql(point, cells=_CELLS) if maps and point else ""
    strongest = [(one.bound, one.search) for one in own if one.is_strongest]
    level_name = str(curve.fields.get("level_name") or "level").replace("_", " ")
    at = f" at {level_name} {maps[0].level:g}" if maps and maps[0].level is not None else ""
    yield Figure(
        name=f"{name}-modes",
        words="bounds per mode",
        chart_words=f"bounds per mode{at}, means over images and channels",
        picture=partial(map_figure, maps, curve),
        chart=lambda: modes_chart(run_query(results, sql).to_pylist(), strongest=strongest) if sql else None,
        sql=sql,
    )
    yield Figure(
        name=f"{name}-histograms",
        words="distribution of the bounds over modes",
        picture=partial(histogram_figure, maps, curve),
    )
    yield Figure(
        name=f"{name}-pictures",
        words="images under noise",
        picture=partial(pictures_figure, pictures, curve, own),
    )


def _accuracy(results: Path | str, sweep: str, utility: pa.Table) -> list[Section]:
    if utility.column("top1").null_count == len(utility):
        return []
    columns = varying(utility, [name for name in _SETTING if name in utility.column_names])
    sql = _ACCURACY.format(columns=", ".join(columns), sweep=quote(sweep))
    return [Section("Accuracy", [table(results, sql)])]


def _bounds(results: Path | str, sweep: str) -> Iterator[Section]:
    """One section per bound: what it promises, its numbers, the SQL that gave them."""
    rows = bounds(results, sweep)
    if len(rows) == 0:
        return
    yield Section("Bounds", [Words(_UNITS)])
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
        words = Words(f"{promise(bound).sentence} {_holds_for(told)}")
        yield Section(escape_markdown(promise(bound).title), [words, table(results, sql)], level=3)


def _holds_for(told: Sequence[str]) -> str:
    words = "; ".join(map(escape_markdown, told))
    if not any(map(is_bound, told)):
        return f"**{words[:1].upper() + words[1:] or 'No bound'}.**"
    return f"**Holds for {words}.**"


def _caveats(
    results: Path | str,
    sweep: str,
    curves: Sequence[Curve],
    series: dict[str, list[Series]],
    attacks: Attacks,
) -> list[Section]:
    """Say what the numbers must not be read as."""
    told = {row["caveat"] for curve in curves for row in curve.rows.to_pylist() if row["caveat"]}
    points = [escape_markdown(text) for text in sorted(told)]
    promises = [str(one.holds_for) for group in series.values() for one in group if is_bound(one.holds_for)]
    if any(words.startswith("unbiased") for words in promises):
        points.append(
            "A bound for unbiased estimators says nothing about an attacker with prior knowledge, who accepts a bias "
            "and may come closer."
        )
        points += _below(curves, series)
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
    points += attack_caveats(attacks, curves)
    if any(row["mi_knn"] is not None for row in privacy(results, sweep).to_pylist()):
        points.append(
            "`mi_knn`, the estimate by nearest neighbours that papers on learned noise report, is biased and bounds "
            "nothing: at the size of images its error may be far larger than the information. `mi_knn_shuffled` is "
            "what it gives where there is no information at all. Read `mi_lower` and `mi_upper`."
        )
    return [Section("Caveats", [Points(tuple(points))])] if points else []


def _below(curves: Sequence[Curve], series: dict[str, list[Series]]) -> Iterator[str]:
    """Say where an attacker with prior knowledge is expected to come closer than an unbiased bound allows."""
    for curve in curves:
        own = series.get(curve.curve_id, [])
        for bound in (one for one in own if one.bound == "dfil"):
            for attacker in (one for one in own if one.bound == "mmse"):
                levels = [
                    level
                    for level, error in sorted(attacker.errors.items())
                    if error < bound.errors.get(level, 0.0)
                ]
                if levels:
                    yield (
                        f"{escape_markdown(curve.name)}: at level {', '.join(f'{level:g}' for level in levels)} an "
                        f"attacker who knows the data ({promise('mmse').title}) has a smaller error than the bound for "
                        f"unbiased estimators ({promise('dfil').title}) allows these. That is no contradiction: the "
                        "attacker is biased."
                    )
