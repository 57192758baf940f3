"""Serve the page: ``python -m hushsweep.dashboards.app RESULTS HOST PORT``, as ``hushsweep ui`` does."""

import contextlib
import logging
import os
import sys
import threading
from importlib.resources import files

from hushsweep.dashboards.app.assets import Assets
from hushsweep.dashboards.app.guard import Guard
from hushsweep.dashboards.app.process import LOOPBACK, TOKEN


def main() -> None:
    """Serve until the process is ended."""
    results, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    import marimo
    import uvicorn

    from hushsweep.dashboards.app import cells

    os.environ[cells.RESULTS] = results
    token = os.environ.pop(TOKEN, None)
    logging.getLogger("marimo").setLevel(logging.ERROR)
    # whoever opens the page first finds the folder read
    threading.Thread(target=cells.Page.open, args=(results,), daemon=True).start()
    page = files("hushsweep.dashboards.app").joinpath("page.py")
    app = marimo.create_asgi_app(quiet=True, include_code=False, token=token).with_app(
        path="", root=str(page)
    )
    names = LOOPBACK if token is None else None
    server = uvicorn.Config(
        Guard(Assets(app.build()), names), host=host, port=port, log_level="error", ws_ping_interval=5
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(server).run()


if __name__ == "__main__":
    main()
