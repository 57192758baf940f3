"""Bounds per mode as a heat map over frequencies, at one noise level."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hushsweep.dashboards.charts.style import Row
from hushsweep.dashboards.promises import place, promise

_MODES = """
WITH cells AS (
    SELECT
        bound, search, basis, "row", "column",
        avg(coalesce(std_bound, std_estimate)) AS std, avg(non_identifiable) AS non_identifiable, max(n) AS images
    FROM modes
    WHERE point_id = {point}
    GROUP BY ALL
    HAVING coalesce(std, non_identifiable) IS NOT NULL
),

blocks AS (
    SELECT *, ceil((max("row") OVER () + 1) / {cells})::INTEGER AS step FROM cells
)

SELECT
    bound, search, basis, "row" // step AS "row", "column" // step AS "column", any_value(step) AS step,
    avg(std) AS std, avg(non_identifiable) AS non_identifiable, max(images) AS images
FROM blocks
GROUP BY bound, search, basis, "row" // step, "column" // step
ORDER BY bound, search, basis, "row", "column"
""".strip()
_TILE, _COLUMNS = 150, 4
_SPAN = 1e4
"""Largest to smallest bound that the colours tell apart."""


def modes_sql(point_id: str, *, cells: int = 64) -> str:
    """SQL for :func:`modes_chart`: the modes of a point, means over channels and at most `cells` blocks a side."""
    quoted = "'" + point_id.replace("'", "''") + "'"
    return _MODES.format(point=quoted, cells=cells)


def modes_chart(
    rows: Sequence[Row], *, strongest: Sequence[tuple[str, str | None]] = ()
) -> alt.VConcatChart | None:
    """Draw every bound as a picture over the modes, and the share of a mode that the features do not depend on.

    Args:
        rows: What :func:`modes_sql` finds.
        strongest: Bound and search of those to draw; all without it.

    Returns:
        None where no mode has a number. Bounds of 0 and modes without one are left out of the colours.
    """
    kept = [row for row in rows if not strongest or _is_among(row, strongest)]
    tiles = dict[str, list[Row]]()
    for row in sorted(kept, key=lambda row: (place(row["bound"]), row["search"] or "")):
        if (row["std"] or 0) > 0:
            search = row["search"]
            name = promise(row["bound"]).title + (
                f" ({search})" if search not in (None, row["bound"]) else ""
            )
            tiles.setdefault(name, []).append(row)
    if not tiles:
        return None
    top = max(row["std"] for own in tiles.values() for row in own)
    least = max(min(row["std"] for own in tiles.values() for row in own), top / _SPAN)
    colours = alt.Color(
        "std:Q",
        scale=alt.Scale(type="log", scheme="viridis", domain=[least, max(top, least * 1.01)], clamp=True),
        legend=alt.Legend(title="std  (normalised pixels)", format="~g"),
    )
    pictures = [_tile(name, own, "std", colours) for name, own in tiles.items()]
    shared = {(row["row"], row["column"]): row for row in kept if row["non_identifiable"] is not None}
    bands: list[alt.Chart | alt.HConcatChart] = [
        alt.hconcat(*pictures[start : start + _COLUMNS], spacing=22)
        for start in range(0, len(pictures), _COLUMNS)
    ]
    if shared:
        shares = alt.Color(
            "non_identifiable:Q",
            scale=alt.Scale(scheme="greys", domain=[0, 1]),
            legend=alt.Legend(title="share", format="~%"),
        )
        bands.append(_tile("Non-identifiable share", list(shared.values()), "non_identifiable", shares))
    chart: alt.VConcatChart = alt.vconcat(*bands).resolve_scale(color="independent")
    return chart


def _is_among(row: Row, strongest: Sequence[tuple[str, str | None]]) -> bool:
    # The measure hcr names its search in its options, not in its modes.
    return any(row["bound"] == bound and row["search"] in (None, search) for bound, search in strongest)


def _tile(name: str, rows: Sequence[Row], column: str, colours: alt.Color) -> alt.Chart:
    frequency = "frequency" if rows[0]["basis"] == "dct" else "pixel"
    step = rows[0]["step"]
    kept = ("row", "column", column)
    axis = alt.Axis(labelOverlap=True, ticks=False, domain=False, labelAngle=0)
    frame = pd.DataFrame([{name: row[name] for name in kept} for row in rows])
    words = [f"mean of {step} x {step} modes a cell"] if step > 1 else []
    tile: alt.Chart = (
        alt.Chart(frame, title=alt.TitleParams(name, subtitle=words, fontSize=11.5, fontWeight="normal"))
        .mark_rect(stroke=None)
        .encode(
            x=alt.X("column:O", title=f"horizontal {frequency}", axis=axis),
            y=alt.Y("row:O", title=f"vertical {frequency}", axis=axis),
            color=colours,
            tooltip=[
                alt.Tooltip("row:O", title="vertical"),
                alt.Tooltip("column:O", title="horizontal"),
                alt.Tooltip(f"{column}:Q", format=".4~g"),
            ],
        )
        .properties(width=_TILE, height=_TILE)
    )
    return tile
