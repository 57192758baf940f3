"""The SQL behind every picture: complete statements that run as they stand, here and in ``hushsweep query``."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 4000
"""Rows that a picture gets at most."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a reader chose; nothing chosen of a kind means all of it."""

    sweeps: Sequence[str] = ()
    models: Sequence[str] = ()
    methods: Sequence[str] = ()

    def condition(self) -> str:
        """SQL over the columns of the view overview."""
        kinds = {"sweep": self.sweeps, "model": self.models, "method": self.methods}
        parts = [f"{column} IN ({', '.join(map(quoted, names))})" for column, names in kinds.items() if names]
        return " AND ".join(parts) or "true"


def quoted(text: str) -> str:
    """`text` as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def choices_sql() -> str:
    """What there is to choose from."""
    return (
        "SELECT sweep, list(DISTINCT model ORDER BY model) AS models,\n"
        "    list(DISTINCT method ORDER BY method) AS methods, count(*) AS points\n"
        "FROM overview GROUP BY sweep ORDER BY sweep"
    )


def levels_sql(chosen: Chosen) -> str:
    """One row per setting, method and level, averaged over seeds: of the trade-off and of the best level."""
    return f"""SELECT
    sweep, setting, dataset, task, model, method, place, variant, level_name, level,
    count(DISTINCT seed) AS n_seeds,
    min(point_id) AS point_id,
    avg(accuracy ORDER BY accuracy) AS accuracy,
    avg(accuracy_loss ORDER BY accuracy_loss) AS accuracy_loss,
    avg(secondary ORDER BY secondary) AS secondary,
    max(floor) AS floor,
    min(strongest) AS strongest,
    avg(mi_upper ORDER BY mi_upper) AS mi_upper,
    avg(hcr_std ORDER BY hcr_std) AS hcr_std,
    avg(epsilon ORDER BY epsilon) AS epsilon
FROM overview
WHERE {chosen.condition()} AND accuracy IS NOT NULL
GROUP BY ALL
ORDER BY sweep, setting, method, place, variant, level
LIMIT {MOST}"""  # noqa: S608 (literals are quoted)


def best_sql(chosen: Chosen, loss: float) -> str:
    """Of every setting the level that hides most at no more than `loss`, or where none loses so little the least."""
    return f"""WITH levels AS (
{levels_sql(chosen).rpartition(chr(10))[0]}
)

SELECT DISTINCT ON (sweep, setting) *, accuracy_loss <= {loss:.6g} + 1e-9 AS is_allowed
FROM levels
WHERE method <> 'none' AND accuracy_loss IS NOT NULL
ORDER BY
    sweep, setting, is_allowed DESC,
    -- what an attacker reads counts before what a bound forbids, and that before a statement about training
    if(is_allowed, secondary, NULL) NULLS LAST,
    if(is_allowed, hcr_std, NULL) DESC NULLS LAST,
    if(is_allowed, epsilon, NULL) NULLS LAST,
    accuracy_loss"""  # noqa: S608


def accuracy_sql(chosen: Chosen) -> str:
    """Accuracy by level, a line per setting and method; seeds share their images, so errors are averaged as well."""
    return f"""WITH points AS (
    SELECT
        tradeoff.* EXCLUDE (curve_id), setting, method, place, variant,
        min(curve_id) OVER (PARTITION BY sweep, setting, mechanism, method, place, variant) AS curve_id
    FROM tradeoff
    JOIN (SELECT sweep, point_id, setting, method, place, variant FROM overview WHERE {chosen.condition()})
    USING (sweep, point_id)
    WHERE top1 IS NOT NULL AND level > 0
)

SELECT
    sweep, dataset, split, model, weights, mechanism, setting, method, place, variant, level_name, level,
    accuracy_measure_id, curve_id,
    min(point_id) AS point_id,
    count(DISTINCT seed) AS seed,
    avg(top1 ORDER BY top1) AS top1,
    avg(top1_stderr ORDER BY top1_stderr) AS top1_stderr,
    avg(clean_top1 ORDER BY clean_top1) AS clean_top1,
    max(accuracy_images) AS accuracy_images
FROM points
GROUP BY ALL
ORDER BY sweep, setting, method, place, variant, level
LIMIT {MOST}"""  # noqa: S608


def failed_sql(chosen: Chosen) -> str:
    """How many measures failed, and why one of them did."""
    return f"""SELECT count(DISTINCT (point_id, measure_id)) AS n, min(reason) AS reason
FROM measurements
WHERE status = 'failed' AND ({points_condition(chosen)})"""  # noqa: S608


def points_sql(points: Sequence[str]) -> str:
    """All numbers of points."""
    return f"""SELECT measure, statistic, value, unit, stderr, n, holds_for, status, reason, seed, level, model,
    mechanism, dataset, sweep, point_id
FROM measurements
WHERE point_id IN ({", ".join(map(quoted, points))})
ORDER BY sweep, point_id, measure, statistic
LIMIT 200"""  # noqa: S608


def curves_sql(chosen: Chosen) -> str:
    """The curves that have bounds."""
    return f"""SELECT DISTINCT bounds.sweep, bounds.curve_id, bounds.dataset, bounds.split, bounds.model,
    bounds.weights, bounds.cut, bounds.mechanism, bounds.seed, variant
FROM bounds
JOIN (SELECT sweep, point_id, variant FROM overview WHERE {chosen.condition()}) USING (sweep, point_id)
ORDER BY ALL"""  # noqa: S608


def bounds_sql(sweep: str, curve_id: str) -> str:
    """Every bound of one curve at every level."""
    return f"""FROM bounds
WHERE sweep = {quoted(sweep)} AND curve_id = {quoted(curve_id)}
ORDER BY bound, search NULLS FIRST, measure_id, level"""


def attack_curves_sql(chosen: Chosen) -> str:
    """The curves that were attacked."""
    return f"""SELECT DISTINCT attacked.sweep, attacked.curve_id, attacked.dataset, attacked.split, attacked.model,
    attacked.weights, attacked.cut, attacked.mechanism, attacked.seed, attacked.variant
FROM reconstructions AS attacked
JOIN (SELECT sweep, point_id FROM overview WHERE {chosen.condition()}) USING (sweep, point_id)
WHERE mse IS NOT NULL AND level > 0
ORDER BY ALL"""  # noqa: S608


def attacks_sql(sweep: str, curve_id: str) -> str:
    """Every attack on one curve at every level."""
    return f"""FROM reconstructions
WHERE sweep = {quoted(sweep)} AND curve_id = {quoted(curve_id)}
ORDER BY attack, level"""


def sandwich_sql(sweep: str, curve_id: str) -> str:
    """Every bound on attacks of one curve at every level."""
    return f"""FROM sandwich
WHERE sweep = {quoted(sweep)} AND curve_id = {quoted(curve_id)}
ORDER BY holds_for, bound, queries, level"""


def mode_points_sql(chosen: Chosen) -> str:
    """The points that have bounds per mode."""
    return f"""SELECT DISTINCT point_id, sweep, model, method, variant, level_name, level, seed
FROM overview SEMI JOIN modes USING (point_id)
WHERE {chosen.condition()}
ORDER BY sweep, model, method, variant, level, seed, point_id
LIMIT {MOST}"""  # noqa: S608


def pictures_sql(chosen: Chosen, images: int = 2, kinds: int = 400) -> str:
    """Pictures of the first images: originals, what bounds mean, masks, and whatever else was stored."""
    return f"""WITH named AS (
    -- several measures may use one attack
    SELECT pictures.* EXCLUDE (bound), sweep, if(kind = 'reconstruction', coalesce(label, bound), bound) AS bound
    FROM pictures
    JOIN (SELECT sweep, point_id, measure_id FROM sweeps) USING (point_id, measure_id)
    LEFT JOIN (SELECT sweep, measure_id, label FROM attack_names) USING (sweep, measure_id)
    WHERE image_index IN (SELECT DISTINCT image_index FROM pictures ORDER BY image_index LIMIT {images})
)

SELECT DISTINCT ON (
    image_index, kind, bound, data_fingerprint,
    -- an original is the same whatever was done to it afterwards
    if(kind = 'original', NULL, [model, method, variant, level::VARCHAR])
)
    sweep, model, method, variant, level_name, level, image_index, kind, bound, channels, height, width, pixels
FROM named
JOIN (SELECT * FROM overview WHERE {chosen.condition()}) USING (sweep, point_id)
JOIN (SELECT DISTINCT point_id, data_fingerprint FROM measurements) USING (point_id)
ORDER BY
    image_index, kind, bound, data_fingerprint,
    if(kind = 'original', NULL, [model, method, variant, level::VARCHAR]), level, seed
LIMIT {kinds}"""  # noqa: S608


def rows_sql(view: str, chosen: Chosen, where: str = "") -> str:
    """Rows of a view as a table; `where` is a condition in the reader's own SQL."""
    own = chosen.condition() if view == "overview" else points_condition(chosen)
    extra = f"\n    AND (\n{where}\n    )" if where.strip() else ""
    return f"SELECT *\nFROM {view}\nWHERE {own}{extra}"


def points_condition(chosen: Chosen) -> str:
    """SQL over the columns of any view that has a sweep and a point."""
    # a row that has no point in overview belongs to no sweep
    return f"(sweep, point_id) IN (SELECT (sweep, point_id) FROM overview WHERE {chosen.condition()})"  # noqa: S608
