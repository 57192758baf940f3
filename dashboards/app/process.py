"""The dashboard as a process of its own: its command, its address, and who may call it."""

import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from hushsweep.datasets.results import StoreError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "HUSHSWEEP_DASHBOARD_TOKEN"  # noqa: S105 (the name of a variable)
"""Environment variable with what a visitor has to know; not in the command, which every user of a machine can read."""


class DashboardCommand(NamedTuple):
    """How to start the dashboard, and with which additions to the environment."""

    command: list[str]
    environment: dict[str, str]


def dashboard_command(results: Path | str, *, host: str = "127.0.0.1", port: int) -> DashboardCommand:
    """Command and environment of the process that serves the dashboard of `results`.

    Beyond loopback a new token is in the environment.
    """
    command = [sys.executable, "-m", "hushsweep.dashboards.app", str(results), host, str(port)]
    token = {} if host in LOOPBACK else {TOKEN: secrets.token_urlsafe(24)}
    return DashboardCommand(command, {"PYTHONSAFEPATH": "1", **token})


def dashboard_address(host: str, port: int, environment: Mapping[str, str]) -> str:
    """Address to open in a browser, with the token if one is needed."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 (compared, not bound)
    shown = f"[{name}]" if ":" in name else name
    token = environment.get(TOKEN)
    return f"http://{shown}:{port}" + (f"/?access_token={quote(token)}" if token else "")


def require_free(host: str, port: int, option: str) -> None:
    """Raise a StoreError that says what to do unless `port` of `host` is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StoreError(
                f"port {port} of {host} cannot be used ({os.strerror(error.errno or 0)}); end what listens there or "
                f"choose another with {option}"
            ) from error
