"""What a report says of differential privacy: accuracy beside epsilon, and what membership attacks reached."""

from pathlib import Path

import pyarrow as pa

from hushsweep.dashboards.reports.model import Section, Words
from hushsweep.dashboards.reports.tables import quote, table, varying

_SETTING = ("dataset", "split", "model", "weights", "train_limit", "class_counts", "cut", "method", "variant")
_NUMBERS = (
    "epsilon",
    "epsilon_rdp",
    "epsilon_rdp_classic",
    "epsilon_person",
    "epsilon_query",
    "delta",
    "noise_multiplier",
    "steps",
    "loss_auc",
    "lira_auc",
    "loss_tpr_at_01_percent",
    "lira_tpr_at_01_percent",
    "tpr_bound_at_01_percent",
    "loss_tpr_at_1_percent",
    "lira_tpr_at_1_percent",
    "tpr_bound_at_1_percent",
)
_ACCURACIES = """
SELECT
    {keys}, level_name, level, count(top1) AS seeds,
    avg(top1 ORDER BY top1) AS top1, stddev_samp(top1 ORDER BY top1) AS top1_std,
    {numbers}
FROM dp
WHERE sweep = {sweep}
GROUP BY {keys}, level_name, level
ORDER BY {keys}, level_name, level
""".strip()
_WORDS = (
    "`epsilon` is that of the training by numerical composition (PLD), `_rdp` and `_rdp_classic` by Renyi accountants, "
    "`_person` that of everything made of one person's image (empty where over-sampling mixes images), `_query` the "
    "local one of a single query at inference. `auc` and `tpr_at_` are of two membership attacks without shadow "
    "models: the share of members found where 0.1 % or 1 % of the others are taken for members; `tpr_bound_` is the "
    "most that `epsilon_person` leaves any attacker. Numbers are means over seeds. Seeds make runs repeatable: who "
    "knows the seed knows the noise, so an epsilon says what a training with secret randomness would have had."
)


def dp_sections(results: Path | str, sweep: str, rows: pa.Table) -> list[Section]:
    """Table of accuracy and epsilons; empty for a sweep that does not measure epsilon.

    Args:
        results: The results folder.
        sweep: The sweep.
        rows: Its rows of the view dp.

    Raises:
        StoreError: a file is damaged.
    """
    if len(rows) == 0:
        return []
    keys = varying(rows, _SETTING, always=("method",))
    filled = [name for name in _NUMBERS if rows.column(name).null_count < len(rows)]
    numbers = ",\n    ".join(f"avg({name} ORDER BY {name}) AS {name}" for name in filled)
    sql = _ACCURACIES.format(keys=", ".join(keys), numbers=numbers or "NULL AS epsilon", sweep=quote(sweep))
    return [Section("Differential privacy", [Words(_WORDS), table(results, sql)])]
