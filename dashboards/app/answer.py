"""Which mechanism to use at a loss of accuracy: a sentence per data set and network."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def sentences(rows: Sequence[Row], loss: float) -> list[str]:
    """Say what rows of :func:`statements.best_sql` mean, in plain text."""
    return [_sentence(row, loss) for row in rows]


def _sentence(row: Row, loss: float) -> str:
    where = f"{_model(row)} on {row['dataset']}" + (f", {row['task']}" if row["task"] else "")
    what = _what(row)
    if not row["is_allowed"]:
        return (
            f"{where} ({row['sweep']}): nothing loses at most {_points(loss)}; the least is {what}, which loses "
            f"{_points(row['accuracy_loss'])}."
        )
    numbers = [f"accuracy {_percent(row['accuracy'])} ({_lost(row['accuracy_loss'])})", *_hidden(row)]
    return f"{where} ({row['sweep']}): use {what}: {', '.join(numbers)}."


def _hidden(row: Row) -> list[str]:
    found = list[str]()
    if row["hcr_std"] is not None:
        found.append(f"HCR bound {row['hcr_std']:.3g} normalised pixels (for unbiased estimators)")
    if row["secondary"] is not None:
        floor = f" (blind guess {_percent(row['floor'])})" if row["floor"] is not None else ""
        found.append(f"secondary accuracy of the strongest attacker {_percent(row['secondary'])}{floor}")
    if row["epsilon"] is not None:
        found.append(f"epsilon of the training {row['epsilon']:.3g}")
    return found or ["nothing measured of what it hides"]


def _what(row: Row) -> str:
    place = f" at the {row['place']}" if row["place"] else ""
    variant = f" ({row['variant']})" if row["variant"] else ""
    level = "" if row["level"] is None else f", {str(row['level_name']).replace('_', ' ')} {row['level']:.4g}"
    return f"{row['method']}{place}{variant}{level}"


def _model(row: Row) -> str:
    return str(row["model"]).rpartition("/")[2]


def _lost(loss: float) -> str:
    return f"{_points(loss)} lost" if loss >= 0 else f"{_points(-loss)} gained"


def _points(fraction: float) -> str:
    return f"{100 * fraction:.3g} points"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
