"""The dashboard as it is really started, in a real browser; and who may call it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from browser_support import Visit, visited

from hushsweep.dashboards.app.process import TOKEN, dashboard_address, dashboard_command, require_free
from hushsweep.datasets.results import Store, StoreError

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


def answer_to(address: str, *, method: str = "GET", **headers: str) -> tuple[int | None, str]:
    data = b"{}" if method == "POST" else None
    request = urllib.request.Request(address, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError:
        return None, ""


@contextmanager
def served(
    results: Path, folder: Path, **environment: str
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    port = free_port()
    command = dashboard_command(results, port=port)
    with (folder / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(
            command.command,
            cwd=folder,
            env={**os.environ, **command.environment, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while answer_to(address)[0] is None:
            assert process.poll() is None, (folder / "dashboard.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield address, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def dashboard(
    quickstart: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    with served(quickstart, tmp_path_factory.mktemp("dashboard")) as started:
        yield started


def show(visit: Visit, view: str, awaited: str) -> None:
    visit.page.get_by_label(view, exact=True).first.click()
    visit.page.get_by_text(awaited).first.wait_for(timeout=20_000)


def opened(visit: Visit) -> None:
    visit.page.locator(".hush-answer li").first.wait_for(timeout=60_000)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_main_views_show_what_the_quickstart_found(
    browser: "Browser", dashboard: tuple[str, "subprocess.Popen[bytes]"], quickstart: Path, dark: bool
) -> None:
    name = "dark" if dark else "light"
    with visited(browser, dashboard[0], dark=dark) as visit:
        opened(visit)
        visit.page.locator("canvas, svg.marks").first.wait_for(timeout=20_000)
        assert visit.page.evaluate("document.body.classList.contains('dark')") is dark
        visit.picture(f"dashboard-{name}", full_page=True)
        show(visit, "Accuracy", "bands hold 95 %")
        visit.picture(f"dashboard-accuracy-{name}", full_page=True)
        show(visit, "Bounds", "No unbiased reconstruction of a mode")
        visit.picture(f"dashboard-bounds-{name}", full_page=True)
        visit.page.get_by_label("Modes", exact=True).first.click()
        visit.page.get_by_text("Point", exact=True).first.wait_for()
        show(visit, "Pictures", "what leaves")
        visit.picture(f"dashboard-pictures-{name}", full_page=True)
        show(visit, "Running", "points done, 0 failed, 0 missing")
        show(visit, "Table", "rows")
        visit.picture(f"dashboard-table-{name}", full_page=True)


def test_which_mechanism_at_one_percent_is_answered_without_a_click(
    browser: "Browser", dashboard: tuple[str, "subprocess.Popen[bytes]"]
) -> None:
    with visited(browser, dashboard[0]) as visit:
        opened(visit)
        answers = visit.page.locator(".hush-answer li").all_inner_texts()
        assert len(answers) == 2, "one for each network and data set"
        assert "use gaussian" in " ".join(answers)
        assert all("HCR bound" in words for words in answers)
        visit.page.get_by_role("slider").first.focus()
        for _ in range(38):
            visit.page.keyboard.press("ArrowRight")
        visit.page.locator(".hush-answer li", has_text="blind guess").filter(has_text="ani").wait_for()
        visit.page.wait_for_function(
            "before => !before.includes(document.querySelector('.hush-answer li').innerText)", arg=answers
        )


def test_one_chart_takes_the_place_of_another_without_a_word_in_the_console(
    browser: "Browser", dashboard: tuple[str, "subprocess.Popen[bytes]"]
) -> None:
    with visited(browser, dashboard[0]) as visit:
        opened(visit)
        visit.page.get_by_text("Select...").nth(1).click()
        visit.page.get_by_role("option", name="laplace", exact=True).click()
        visit.page.locator(".hush-answer li", has_text="use laplace").wait_for()
        visit.page.wait_for_function("() => document.querySelectorAll('.hush-answer li').length === 1")
        visit.page.keyboard.press("Escape")
        show(visit, "Bounds", "No unbiased reconstruction of a mode")
        show(visit, "Trade-off", "A click on a point shows its numbers")
        visit.page.wait_for_timeout(1000)


def test_a_click_on_a_point_of_the_tradeoff_shows_its_numbers(
    browser: "Browser", dashboard: tuple[str, "subprocess.Popen[bytes]"]
) -> None:
    with visited(browser, dashboard[0]) as visit:
        opened(visit)
        # a chart on a canvas has nothing to click by name; where it draws symbols, the first is a point
        visit.page.wait_for_timeout(1500)
        mark = visit.page.locator("svg .mark-symbol.role-mark path").first
        if mark.count():
            mark.click(force=True)
            visit.page.locator(".hush-table").first.wait_for(timeout=10_000)
        else:
            box = visit.page.locator("canvas").first.bounding_box()
            assert box is not None
            assert clicked(visit, box), "no point of the chart answered a click"
        assert "top1" in visit.page.locator(".hush-table").first.inner_text()


def clicked(visit: Visit, box: dict[str, float]) -> bool:
    """Look for a point with the mouse: what has a tooltip is one."""
    for y in range(4, int(box["height"]) - 60, 6):
        for x in range(60, int(box["width"]), 6):
            visit.page.mouse.move(box["x"] + x, box["y"] + y)
            if visit.page.locator("#vg-tooltip-element.visible").count():
                visit.page.mouse.click(box["x"] + x, box["y"] + y)
                visit.page.locator(".hush-table").first.wait_for(timeout=10_000)
                return True
    return False


def test_an_empty_store_is_said_in_the_page(browser: "Browser", tmp_path: Path) -> None:
    Store(tmp_path / "results")
    with (
        served(tmp_path / "results", tmp_path) as (address, _),
        visited(browser, address) as visit,
    ):
        visit.page.get_by_text("no results yet; start with: hushsweep run").first.wait_for(timeout=60_000)


def test_a_page_that_gets_no_websocket_says_what_to_let_through(
    browser: "Browser", dashboard: tuple[str, "subprocess.Popen[bytes]"]
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route_web_socket("**/*", lambda socket: socket.close())
    page.goto(dashboard[0])
    page.wait_for_function(
        "() => { const s = getComputedStyle(document.body, '::after');"
        " return s.visibility === 'visible' && s.content.includes('WebSocket'); }",
        timeout=30_000,
    )
    context.close()


def test_it_answers_this_machine_alone(dashboard: tuple[str, "subprocess.Popen[bytes]"]) -> None:
    address, process = dashboard
    port = address.rpartition(":")[2]
    assert answer_to(address)[0] == 200
    assert answer_to(address, Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "192.168.0.7", "127.0.0.1.evil.example"):
        assert answer_to(address, Host=host)[0] == 403, host
    assert answer_to(address, Origin="http://evil.example")[0] == 403
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(process.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_visitors_can_neither_read_nor_change_the_code(
    dashboard: tuple[str, "subprocess.Popen[bytes]"],
) -> None:
    address, _ = dashboard
    status, page = answer_to(address)
    assert status == 200
    assert "cells.Page.open" not in page
    token = (
        json.loads(page.partition('"serverToken": ')[2].partition(",")[0]) if "serverToken" in page else ""
    )
    for path in (
        "kernel/run",
        "kernel/save",
        "files/list_files",
        "files/create",
        "terminal/ws",
        "kernel/shutdown",
    ):
        status, _ = answer_to(
            f"{address}/api/{path}",
            method="POST",
            **{"Content-Type": "application/json", "Marimo-Server-Token": token},
        )
        assert status is not None
        assert status >= 400, path


def test_beyond_loopback_it_asks_for_a_token(quickstart: Path, tmp_path: Path) -> None:
    beyond = dashboard_command(quickstart, host="0.0.0.0", port=8050)
    token = beyond.environment[TOKEN]
    assert token not in " ".join(beyond.command), "every user of a machine can read commands"
    assert token in dashboard_address("0.0.0.0", 8050, beyond.environment)
    assert TOKEN not in dashboard_command(quickstart, port=8050).environment
    with served(quickstart, tmp_path, **{TOKEN: token}) as (address, _):
        assert "marimo-mode" not in answer_to(address)[1]
        assert answer_to(f"{address}/api/status")[0] in (401, 403)
        assert "marimo" in answer_to(f"{address}/?access_token={token}")[1]


def test_a_port_in_use_gets_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            StoreError, match=rf"port {port} of 127.0.0.1 cannot be used .*choose another with --port"
        ):
            require_free("127.0.0.1", port, "--port")
