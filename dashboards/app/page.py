# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""The page itself: a marimo file, each function a cell that runs again when what it reads changes."""

import marimo

app = marimo.App(width="full", app_title="hushsweep", css_file="page.css")


@app.cell
def _():
    import os

    import marimo as mo

    from hushsweep.dashboards.app import cells

    results = os.environ[cells.RESULTS]
    return cells, mo, results


@app.cell
def _(cells, mo):
    again = mo.ui.button(label="Read the folder again", value=0, on_click=lambda count: count + 1)
    loss = mo.ui.slider(
        start=0,
        stop=20,
        step=0.5,
        value=1,
        show_value=True,
        debounce=True,
        label="Accuracy that may be lost (percentage points)",
    )
    view = mo.ui.radio(options=cells.VIEWS, value=cells.VIEWS[0], inline=True, label="Show")
    return again, loss, view


@app.cell
def _(again, cells, mo, results):
    again.value
    data = cells.Page.open(results)
    mo.stop(data.problem is not None, mo.Html(cells.problem_html(data)))
    return (data,)


@app.cell
def _(data, mo):
    sweeps = mo.ui.multiselect(options=data.sweeps, value=data.first_sweeps, label="Sweeps")
    return (sweeps,)


@app.cell
def _(data, mo, sweeps):
    models = mo.ui.multiselect(options=data.models(sweeps.value), label="Networks (none chosen: all)")
    methods = mo.ui.multiselect(options=data.methods(sweeps.value), label="Mechanisms (none chosen: all)")
    return methods, models


@app.cell
def _(cells, methods, models, sweeps):
    chosen = cells.Chosen(sweeps=sweeps.value, models=models.value, methods=methods.value)
    return (chosen,)


@app.cell
def _(again, cells, chosen, data, loss, methods, mo, models, sweeps):
    answer = cells.answer(data, chosen, loss.value / 100)
    mo.vstack(
        [
            mo.Html(cells.heading_html(data)),
            mo.hstack([sweeps, models, methods, again], justify="start", wrap=True, gap=1.5),
            mo.Html("<div class='hush-title'>Which mechanism?</div>"),
            loss,
            mo.Html(answer),
        ]
    )
    return


@app.cell
def _(view):
    view
    return


@app.cell
def _(cells, chosen, data, mo, view):
    mo.stop(view.value != "Trade-off")
    hides = mo.ui.dropdown(
        options=data.hides(chosen), value=next(iter(data.hides(chosen)), None), label="Hidden, as"
    )
    hides
    return (hides,)


@app.cell
def _(cells, chosen, data, hides, mo):
    frontier = cells.frontier(data, chosen, hides.value)
    picture = None if frontier.chart is None else cells.drawn(mo, frontier.chart, is_clickable=True)
    mo.vstack([mo.Html(frontier.words) if picture is None else picture, mo.Html(frontier.sql)])
    return (picture,)


@app.cell
def _(cells, chosen, data, mo, picture):
    mo.stop(picture is None)
    mo.Html(cells.picked_html(data, chosen, picture.selections))
    return


@app.cell
def _(cells, chosen, data, mo, view):
    mo.stop(view.value != "Accuracy")
    mo.vstack(cells.shown(mo, cells.accuracy(data, chosen)))
    return


@app.cell
def _(cells, chosen, data, mo, view):
    mo.stop(view.value != "Bounds")
    curve = cells.dropdown(mo, data.curves(chosen), "Curve")
    curve
    return (curve,)


@app.cell
def _(cells, curve, data, mo):
    mo.vstack(cells.shown(mo, cells.bounds(data, curve.value)))
    return


@app.cell
def _(cells, chosen, data, mo, view):
    mo.stop(view.value != "Attacks")
    attacked = cells.dropdown(mo, data.attacked(chosen), "Curve")
    attacked
    return (attacked,)


@app.cell
def _(attacked, cells, data, mo):
    mo.vstack(cells.shown(mo, cells.attacks(data, attacked.value)))
    return


@app.cell
def _(cells, chosen, data, mo, view):
    mo.stop(view.value != "Modes")
    place = cells.dropdown(mo, data.mode_points(chosen), "Point")
    place
    return (place,)


@app.cell
def _(cells, data, mo, place):
    mo.vstack(cells.shown(mo, cells.modes(data, place.value)))
    return


@app.cell
def _(cells, chosen, data, mo, view):
    mo.stop(view.value != "Pictures")
    mo.vstack(cells.shown(mo, cells.gallery(data, chosen)))
    return


@app.cell
def _(mo, view):
    mo.stop(view.value != "Running")
    clock = mo.ui.refresh(options=["2s", "5s", "30s"], default_interval="5s", label="Look again every")
    clock
    return (clock,)


@app.cell
def _(cells, clock, mo, results, sweeps):
    clock.value
    mo.Html(cells.running(results, sweeps.value))
    return


@app.cell
def _(cells, mo, view):
    mo.stop(view.value != "Table")
    table = mo.ui.dropdown(options=cells.TABLES, value=cells.TABLES[0], label="View")
    where = mo.ui.text(
        placeholder="accuracy > 0.9 AND level < 2", label="Only rows where (SQL)", full_width=True
    )
    mo.hstack([table, where], justify="start", widths=[1, 3])
    return table, where


@app.cell
def _(cells, chosen, data, mo, table, where):
    rows = cells.table(data, table.value, chosen, where.value)
    mo.vstack(
        [
            mo.Html(rows.words),
            *(
                []
                if rows.first is None
                else [
                    mo.hstack(
                        [
                            mo.download(
                                rows.csv, filename=f"{table.value}.csv", mimetype="text/csv", label="CSV"
                            ),
                            mo.download(
                                rows.parquet,
                                filename=f"{table.value}.parquet",
                                mimetype="application/vnd.apache.parquet",
                                label="Parquet",
                            ),
                        ],
                        justify="start",
                    ),
                    mo.ui.table(rows.first, selection=None, page_size=20, show_download=False),
                ]
            ),
            mo.Html(rows.sql),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
