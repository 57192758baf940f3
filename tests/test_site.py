"""The documentation as a site: links are strict, all that can be looked up is there, no other server is asked."""

import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from browser_support import visited

from hushsweep.sweeps import json_schema
from hushsweep.sweeps.cli import app

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
ROOT = Path(__file__).parent.parent
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def build(output: Path, *, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    # not with -q: mkdocs does not count the warnings that it does not print
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(config),
        "-d",
        str(output),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    output = tmp_path_factory.mktemp("site")
    found = build(output)
    assert found.returncode == 0, found.stdout + found.stderr
    return output


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where a server on this machine shows it."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_page_is_built_and_nothing_else_of_the_folder(site: Path) -> None:
    pages = {path.stem for path in site.glob("*.html")}
    assert pages >= {path.stem for path in (ROOT / "docs").glob("*.md")} | {"changelog"}
    for notebook in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / f"{notebook.stem}.html").is_file()
    assert not (site / "rows").exists()
    assert not list(site.rglob("*.py"))


def test_no_page_takes_anything_from_another_server(site: Path) -> None:
    taken = r"<(?:link|script|img|iframe|video|source)\b[^>]*\b(?:src|href)=\"?((?:https?:)?//[^\" >]+)"
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text()
        assert re.findall(taken, text) == [], page
        assert re.findall(r"url\([\"']?(?:https?:)?//[^)]+\)", text) == [], page
        assert 'class="mermaid"' not in text, "its program would come from another server"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_reader_finds_a_key_by_searching(address: str, browser: Any, dark: bool) -> None:
    with visited(browser, f"{address}/index.html", dark=dark) as visit:
        page = visit.page
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 384) == dark
        visit.picture(f"docs-{'dark' if dark else 'light'}")
        box = page.get_by_role("textbox", name="Search")
        box.focus()
        # what is asked before the index is there is never answered
        page.locator(".md-search-result__meta", has_text="Type to start searching").wait_for(state="attached")
        box.press_sequentially("feature_cache_gb")  # it is keys that are listened to
        page.locator(".md-search-result__link", has_text="Keys of a sweep file").first.click()
        page.wait_for_url("**/reference/sweep-file.html*")
        assert page.get_by_text("largest feature cache of one trial, GB").is_visible()
        page.goto(f"{address}/reference/workers.bounds.html#hushsweep.workers.bounds.hcr_std_bound")
        assert page.get_by_text("Lower-bound the standard deviation").first.is_visible()
        visit.picture(f"docs-reference-{'dark' if dark else 'light'}")


def test_a_link_to_nowhere_ends_the_build(tmp_path: Path) -> None:
    for name in ("page", "anchor"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "index.md").write_text({"page": "[no](none.md)", "anchor": "[no](#none)"}[name])
        settings = re.search(
            r"^validation:.*?(?=^\w)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE | re.DOTALL
        )
        assert settings
        config = tmp_path / f"{name}.yml"
        config.write_text(f"site_name: broken\ndocs_dir: {name}\ntheme: {{name: material}}\n{settings[0]}")
        found = build(tmp_path / f"{name}-site", config=config)
        assert found.returncode != 0
        assert "none" in found.stdout + found.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example_that_is_one(name: str, site: Path) -> None:
    command = COMMANDS[name]
    assert command.help
    assert command.epilog.startswith("Example: hushsweep ")
    for example in command.epilog.removeprefix("Example: ").split("; "):
        first, second, *arguments = shlex.split(example.partition(" > ")[0])
        assert (first, second) == ("hushsweep", name)
        command.make_context(name, arguments)  # raises where an option is unknown or something is missing
    page = (site / "reference" / "commands.html").read_text()
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help, parameter.name
        for spelled in parameter.opts if parameter.param_type_name == "option" else ():
            assert f"<code>{spelled}</code>" in page, spelled
    assert f'id="{name}"' in page
    assert (
        f"hushsweep {name}" in (ROOT / "README.md").read_text()
        or f"`{name}" in (ROOT / "README.md").read_text()
    )


def test_every_key_of_a_sweep_file_is_a_row_with_its_meaning(site: Path) -> None:
    page = (site / "reference" / "sweep-file.html").read_text()
    schema = json_schema()
    rows = re.findall(
        r"<tr>\s*<td><code>(\w+)</code></td>\s*<td>.*?</td>\s*<td>.*?</td>\s*<td>(.*?)</td>", page, re.DOTALL
    )
    sections = [schema, *schema["$defs"].values()]
    keys = [name for one in sections for name, key in one["properties"].items() if set(key) != {"const"}]
    assert sorted(name for name, _ in rows) == sorted(keys)
    assert [name for name, meaning in rows if not meaning.strip()] == []


def test_command_lines_in_the_documents_are_taken_by_the_parser() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(
            r"^```(?:bash|sh|console)?\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL
        ):
            for line in re.findall(
                r"^(?:\.venv/bin/)?hushsweep (\w.*)$", block.replace("\\\n", " "), re.MULTILINE
            ):
                name, *arguments = shlex.split(re.split(r" [>|&] |  +", line)[0], comments=True)
                COMMANDS[name].make_context(name, arguments)
