"""What a report says of reconstruction attacks: their errors, bounds beside them, and what that comparison allows."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from hushsweep.dashboards.attacks import panels_of
from hushsweep.dashboards.charts import attacks_chart
from hushsweep.dashboards.curves import Curve
from hushsweep.dashboards.figures import attacks_figure, pictures_figure
from hushsweep.dashboards.figures.pictures import Picture
from hushsweep.dashboards.promises import place, promise
from hushsweep.dashboards.queries import reconstructions, sandwich
from hushsweep.dashboards.queries.output import escape_markdown
from hushsweep.dashboards.reports.model import Figure, Part, Points, Section, Words
from hushsweep.dashboards.reports.tables import quote, table, varying

_SETTING = ("dataset", "split", "task", "model", "weights", "cut", "method", "place", "variant", "seed")
_NUMBERS = (
    "mse",
    "mse_stderr",
    "mse_blind",
    "mse_worst_off",
    "psnr",
    "ssim",
    "lpips",
    "recognised",
    "reidentified",
    "candidates",
    "secondary",
    "n",
)
_ERRORS = """
SELECT {columns}
FROM reconstructions
WHERE sweep = {sweep} AND status = 'complete'
ORDER BY {order}
""".strip()
_BOUNDS = """
SELECT {columns}
FROM sandwich
WHERE sweep = {sweep}
ORDER BY {order}
""".strip()
_WORDS = (
    "`mse` is the mean squared error per pixel of what the attack makes of an image, in normalised pixels squared, "
    "`mse_worst_off` the same over the 5 % of images that are reconstructed best, `mse_blind` that of someone who "
    "sees nothing and answers with the mean training image; `psnr` in dB; `lpips` is what a trained network sees "
    "between the two (0: nothing). `recognised` is the share of reconstructions "
    "that the network under attack gives the true label, `reidentified` that of images found again among the "
    "`candidates`, `secondary` that of secondary labels read off the reconstruction; `n` counts images. The error of "
    "an attack is what this program reached: another may come closer."
)
_BESIDE = (
    "The attack is the one with the least error, and `gap` that error over the bound. A bound for unbiased estimators "
    "stands beside the error on images as they are, of one output per image; one for every estimator beside the error "
    "on the very quantity that it is about (`averages_over`): a gap below 1 there, beyond what chance explains, "
    "is an error in a program. `images` counts those of the bound, `attack_images` those of the attack."
)
_HOW = (
    "mean squared error against noise, on the images and on what each bound for every estimator averages over. Bold: "
    "bounds, solid for every estimator, dashed for unbiased ones; with marks: attacks; dotted: the mean training image"
)


class Attacks(NamedTuple):
    """Rows of the views reconstructions and sandwich, of one sweep."""

    rows: pa.Table
    beside: pa.Table


def read_attacks(results: Path | str, sweep: str) -> Attacks:
    """Read what sections and caveats are about.

    Raises:
        StoreError: a file is damaged.
    """
    return Attacks(reconstructions(results, sweep), sandwich(results, sweep))


def attack_sections(
    results: Path | str,
    sweep: str,
    attacks: Attacks,
    curves: Sequence[Curve],
    pictures: Sequence[Picture],
    detailed: int | None,
) -> list[Section]:
    """Pictures and tables of attacks, then of the bounds beside them; empty for a sweep without such attacks.

    Args:
        results: The results folder.
        sweep: The sweep.
        attacks: What is known of it.
        curves: Its curves, numbered from 1 on in names of figures.
        pictures: All pictures of the sweep.
        detailed: Number of curves with reconstructed images; all without it.

    Raises:
        StoreError: a file is damaged.
    """
    rows, beside = attacks
    if rows.column("mse").null_count == len(rows) and len(beside) == 0:
        return []
    parts: list[Part] = [Words(_WORDS), *_figures(sweep, rows, beside, curves, pictures, detailed)]
    keys = varying(rows, _SETTING, always=("method",))
    if rows.column("mse").null_count < len(rows):
        filled = [name for name in _NUMBERS if rows.column(name).null_count < len(rows)]
        columns = ", ".join([*keys, "level", "attack", *filled])
        sql = _ERRORS.format(
            columns=columns,
            sweep=quote(sweep),
            order=", ".join([*keys, "level NULLS FIRST", "mse", "attack"]),
        )
        parts.append(table(results, sql))
    found = [Section("What attacks reconstruct", parts)]
    if len(beside):
        found.append(_beside(results, sweep, beside))
    return found


def _beside(results: Path | str, sweep: str, rows: pa.Table) -> Section:
    keys = varying(rows, _SETTING, always=("method",))
    extra = [
        name
        for name in ("queries", "distance", "prior_std")
        if len({*rows.column(name).to_pylist()} - {None}) > 1
    ]
    names = [
        "bound",
        *extra,
        "mse_bound",
        "attack",
        "attack_mse",
        "gap",
        "holds_for",
        "averages_over",
        "images",
        "attack_images",
        *(["flag"] if rows.column("flag").null_count < len(rows) else []),
    ]
    order = ", ".join([*keys, "level", "holds_for", "bound", "attack_mse"])
    sql = _BOUNDS.format(columns=", ".join([*keys, "level", *names]), sweep=quote(sweep), order=order)
    bounds = sorted(set(rows.column("bound").to_pylist()), key=place)
    promises = tuple(
        f"**{escape_markdown(promise(bound).title)}** (`{bound}`): {promise(bound).sentence}"
        for bound in bounds
    )
    return Section("Attacks beside bounds", [Words(_BESIDE), table(results, sql), Points(promises)], level=3)


def _figures(
    sweep: str,
    rows: pa.Table,
    beside: pa.Table,
    curves: Sequence[Curve],
    pictures: Sequence[Picture],
    detailed: int | None,
) -> Iterator[Part]:
    attacks, bounds = _by_curve(rows), _by_curve(beside)
    shown = [one for one in pictures if one.kind in ("original", "reconstruction")]
    reconstructed = {one.curve_id for one in shown if one.kind == "reconstruction"}
    drawn = [
        (number, curve)
        for number, curve in enumerate(curves, start=1)
        if curve.curve_id in attacks.keys() | bounds.keys() | reconstructed
    ]
    galleries = 0
    for number, curve in drawn:
        own, own_bounds = attacks[curve.curve_id], bounds[curve.curve_id]
        about = f"{escape_markdown(curve.name)}: " if len(drawn) > 1 else ""
        where = f"WHERE sweep = {quote(sweep)} AND curve_id = {quote(curve.curve_id)}"
        panels = panels_of(own, own_bounds)
        if panels:
            yield Figure(
                name=f"curve-{number}-attacks",
                words=f"{about}{_HOW}",
                picture=partial(attacks_figure, panels, curve),
                chart=partial(attacks_chart, own, own_bounds),
                sql=(
                    f"SELECT level, attack AS line, mse, n, 'the image' AS about FROM reconstructions {where}\n"  # noqa: S608 (quoted)
                    f"UNION ALL\nSELECT level, bound, mse_bound, images, averages_over FROM sandwich {where}\n"
                    f"UNION ALL\nSELECT level, attack, attack_mse, images, averages_over FROM sandwich {where} "
                    "AND holds_for = 'every estimator'"
                ),
            )
        if curve.curve_id in reconstructed and (detailed is None or galleries < detailed):
            galleries += 1
            yield Figure(
                name=f"curve-{number}-reconstructions",
                words=f"{about}images, and what attacks make of what leaves, by noise level",
                picture=partial(pictures_figure, shown, curve, []),
            )


def _by_curve(rows: pa.Table) -> defaultdict[str, list[dict[str, Any]]]:
    found = defaultdict[str, list[dict[str, Any]]](list)
    for row in rows.to_pylist():
        found[row["curve_id"]].append(row)
    return found


def attack_caveats(attacks: Attacks, curves: Sequence[Curve]) -> Iterator[str]:
    """Say what attacks beside bounds must not be read as, and where a program is wrong."""
    rows, beside = (table.to_pylist() for table in attacks)
    names = {curve.curve_id: escape_markdown(curve.name) for curve in curves}
    flagged = defaultdict[tuple[str, str], list[dict[str, Any]]](list)
    for row in beside:
        if row["flag"]:
            flagged[row["curve_id"], row["flag"]].append(row)
    for (curve_id, flag), own in flagged.items():
        bounds = ", ".join(promise(bound).title for bound in sorted({row["bound"] for row in own}, key=place))
        levels = ", ".join(
            f"{level:g}" for level in sorted({r["level"] for r in own if r["level"] is not None})
        )
        words = f"{names[curve_id]}: at level {levels}, {escape_markdown(bounds)}: {flag}."
        if flag.startswith("violated"):
            words = f"**{words}** Do not quote numbers of these points."
        yield words
    complete = [row for row in rows if row["mse"] is not None]
    if complete:
        yield (
            "Errors of attacks are upper limits of what can be hidden from everybody: a better attack may exist, and "
            "only a bound for every estimator limits it."
        )
    if any(row["is_oracle"] for row in complete):
        yield (
            "`bayes` is an oracle and no attack: it knows the network's slope at the true image. It takes no part in "
            "comparisons with bounds."
        )
    if any(row["queries"] > 1 for row in complete):
        yield (
            "An attack that sees several outputs of an image may be below a bound on one output; it is not held "
            "against such bounds."
        )
