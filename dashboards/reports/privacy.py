"""What a report says of the trade-off between the primary task and what a server still learns."""

from pathlib import Path

from hushsweep.dashboards.queries import frontier
from hushsweep.dashboards.reports.model import Section, Words
from hushsweep.dashboards.reports.tables import quote, table, varying

_SETTING = ("dataset", "split", "task", "model", "weights", "cut", "method", "place", "variant")
_NUMBERS = (
    "n_seeds",
    "primary_top1",
    "primary_std",
    "primary_loss",
    "secondary_single",
    "secondary_mask",
    "secondary_average",
    "secondary_strongest",
    "secondary_std",
    "floor",
    "secondary_information",
    "mi_upper",
    "mi_lower",
    "is_pareto",
    "is_pareto_overall",
)
_FRONTIER = """
SELECT {columns}
FROM frontier
WHERE sweep = {sweep}
ORDER BY {order}
""".strip()
_DROP = """
SELECT {columns}, level, primary_top1, primary_loss, secondary_single, single_drop, secondary_strongest, secondary_drop,
    floor, reference, reference_secondary, chosen_on
FROM secondary_drop(most := 0.01)
WHERE sweep = {sweep}
ORDER BY {others}secondary_drop DESC NULLS LAST, method
""".strip()
_COST = """
SELECT DISTINCT {columns}, client_flops, server_flops, client_share
FROM frontier
WHERE sweep = {sweep} AND client_flops IS NOT NULL
ORDER BY ALL
""".strip()
_WORDS = (
    "`primary_` is the accuracy of what the client wants, `secondary_` that of a network trained to read the secondary "
    "label from what leaves: one output per image (`single`), the same with the client's mask (`mask`), the mean of "
    "several outputs (`average`); `strongest` is the one of them that is best on validation images. `floor` is the "
    "best guess of someone who knows the primary label and nothing else. `mi_` is the information about the image in "
    "what leaves, in bits. Numbers are means over `n_seeds` seeds, `_std` their standard deviation. `is_pareto`: no "
    "other level of the method is at least as good in both accuracies and better in one; `overall`: no level of any "
    "method. The accuracy of an attacker is what was reached and no bound: another one may learn more."
)


def privacy_sections(results: Path | str, sweep: str) -> list[Section]:
    """Tables of the trade-off, of the drop at one point of primary loss, and of what the client's network costs.

    Empty for a sweep that measures neither secondary accuracy nor information.

    Raises:
        StoreError: there are no results, no such sweep in them, or a file is damaged.
    """
    rows = frontier(results, sweep)
    if len(rows) == 0:
        return []
    keys = varying(rows, _SETTING, always=("method",))
    filled = [name for name in _NUMBERS if rows.column(name).null_count < len(rows)]
    columns = [*keys, "level", *filled]
    sql = _FRONTIER.format(columns=", ".join(columns), sweep=quote(sweep), order=", ".join([*keys, "level"]))
    found = [Section("What a server still learns", [Words(_WORDS), table(results, sql)])]
    words = [name for name in keys if name != "variant"]
    if rows.column("secondary_strongest").null_count < len(rows):
        others = "".join(f"{name}, " for name in words if name not in ("method", "place"))
        sql = _DROP.format(columns=", ".join(keys), sweep=quote(sweep), others=others)
        words_of = "Against `reference`; a method without a level loses more at each of its levels."
        title = "Secondary drop at no more than 1 point of primary loss"
        found.append(Section(title, [Words(words_of), table(results, sql)], level=3))
    if rows.column("client_flops").null_count < len(rows):
        sql = _COST.format(columns=", ".join(words), sweep=quote(sweep))
        cost = Words("FLOPs per image, and as a share of the server's.")
        found.append(Section("Cost of the client's network", [cost, table(results, sql)], level=3))
    return found
