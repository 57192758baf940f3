"""Pages of the site that the code itself writes while mkdocs builds: commands, sweep file, tables, library.

They are not committed, so none can be out of date; on a code host ``hushsweep COMMAND --help`` and ``hushsweep schema``
say the same.
"""

import importlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
FOLDERS = ("datasets", "workers", "dashboards", "sweeps")
PACKAGES = (
    "sweeps",
    "workers.bounds",
    "workers.mechanisms",
    "workers.measures",
    "workers.models",
    "workers.attacks",
    "workers.information",
    "workers.accounting",
    "workers.learning",
    "datasets.images",
    "datasets.tasks",
    "datasets.results",
    "dashboards",
)
"""What the reference of the library shows: packages that list their names."""
_TITLES = {
    "DatasetSpec": "dataset",
    "ModelSpec": "model",
    "ExecutionSpec": "execution",
    "EarlyStoppingSpec": "early_stopping",
    "LogUniformLevels": "levels spread in their logarithm",
    "UniformLevels": "levels spread evenly",
    "TargetLevel": "level for an accuracy",
}
"""Headings of sections of a sweep file that are no plug-ins, by their names in the schema."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^):#]+)\)")
_SOURCES = tempfile.TemporaryDirectory(prefix="hushsweep-site-")
"""The package under the names by which users import it, for mkdocstrings, which reads sources and imports nothing."""


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the package, and put pages that the navigation does not name at its end."""
    package = Path(_SOURCES.name) / "hushsweep"
    if not package.exists():  # mkdocs serve comes here again and again
        package.mkdir()
        for folder in FOLDERS:
            (package / folder).symlink_to(ROOT / folder, target_is_directory=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(package.parent)]
    library = next(part["Reference"] for part in config.nav or [] if "Reference" in part)
    library += [{name: f"reference/{name}.md"} for name in PACKAGES]
    pages = [path.name for path in DOCS.glob("*.md")] + [_page_of(path) for path in _notebooks()]
    left = sorted(page for page in pages if page not in json.dumps(config.nav))
    if left:
        (config.nav or []).append({"More": left})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the written pages, and files outside docs/ that pages link to."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/sweep-file.md": sweep_file_page(),
        "reference/tables.md": tables_page(),
        "reference/library.md": library_page(),
        **{f"reference/{name}.md": package_page(name) for name in PACKAGES},
        **{_page_of(path): notebook_page(json.loads(path.read_text())) for path in _notebooks()},
        "changelog.md": (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "]("),
    }
    for address, text in pages.items():
        files.append(File.generated(config, address, content=text))
    pointed_at = {
        target
        for page in DOCS.glob("*.md")
        for _, _, target in _LINK.findall(page.read_text())
        if target[:3] == "../"
    }
    for target in sorted(pointed_at):
        if (DOCS / target).is_file():
            files.append(File.generated(config, _copy(target), content=(DOCS / target).read_text()))
    return files


def _copy(target: str) -> str:
    return f"files/{target.removeprefix('../')}.txt"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that leave docs/ to the copies of the files; what is a folder stays as text alone."""

    def inside(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if (DOCS / target).is_dir():
            return text
        if target.endswith(".ipynb"):
            return f"[{text}]({target.removesuffix('.ipynb')}.md)"
        return f"{image}[{text}]({_copy(target)})" if target.startswith("../") else found[0]

    return markdown if "/" in page.file.src_uri else _LINK.sub(inside, markdown)


def _notebooks() -> list[Path]:
    return sorted((DOCS / "notebooks").glob("*.ipynb"))


def _page_of(notebook: Path) -> str:
    return f"notebooks/{notebook.stem}.md"


def notebook_page(notebook: dict[str, Any]) -> str:
    """Cells of a notebook, and what they gave as text or picture; HTML is left out, since it may bring programs."""
    parts = list[str]()
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = {**output.get("data", {}), **({"text/plain": output["text"]} if "text" in output else {})}
            if "image/png" in data:
                parts.append(f"![](data:image/png;base64,{''.join(''.join(data['image/png']).split())})")
            elif "text/plain" in data:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def commands() -> dict[str, Any]:
    """Every command of the command line, by name, as typer made them."""
    from hushsweep.sweeps.cli import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def commands_page() -> str:
    """Every command: what it does, examples, arguments and options."""
    parts = [
        "# Commands",
        "The same as `hushsweep COMMAND --help`. Exit code 2 means that the input was wrong.",
    ]
    for name, command in commands().items():
        context = command.make_context(f"hushsweep {name}", [], resilient_parsing=True)
        usage = (
            " ".join([context.command_path, *command.collect_usage_pieces(context)])
            .replace("{", "")
            .replace("}", "")
        )
        parts += [f"## {name}", *(_plain(text) for text in command.help.split("\n\n"))]
        parts += ["```bash", *examples(command), "```", f"Usage: `{usage}`"]
        rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        parts += _table(("argument or option", "default", "meaning"), rows)
    return _joined(parts)


def examples(command: Any) -> list[str]:
    """Command lines that the help of a command shows."""
    return str(command.epilog or "").removeprefix("Example: ").split("; ")


def _parameter(parameter: Any) -> tuple[str, ...]:
    spelled = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        spelled = [parameter.name.upper()]
    names = ", ".join(f"`{name}`" for name in spelled)
    return (
        names,
        "required" if parameter.required else _value(parameter.default),
        _plain(parameter.help or ""),
    )


def sweep_file_page() -> str:
    """Every key of a sweep file: type, default and meaning, from its JSON Schema."""
    from hushsweep.sweeps.spec import json_schema

    schema = json_schema()
    sections = {"A sweep file": schema} | {_title(key, one): one for key, one in schema["$defs"].items()}
    parts = [
        "# Keys of a sweep file",
        "Every key that a sweep file may use, as `hushsweep schema` publishes them. A key that takes several values "
        "multiplies: its points are all combinations. [Sweep files](../sweeps.md) explains them with examples.",
    ]
    for title, section in sections.items():
        parts += [f"## {title}", _plain(section.get("description", ""))]
        required = section.get("required", ())
        rows = [
            (
                f"`{key}`",
                _type(one, schema["$defs"]),
                _default(one, key in required),
                _plain(one.get("description", "")),
            )
            for key, one in section["properties"].items()
            if key != "name" or "const" not in one or section is schema["$defs"]["EarlyStoppingSpec"]
        ]
        parts += _table(("key", "type", "default", "meaning"), rows)
    return _joined(parts)


def _title(name: str, definition: dict[str, Any]) -> str:
    from hushsweep.workers.measures import MEASURES

    if name in _TITLES:
        return _TITLES[name]
    plugin = definition["properties"]["name"]["const"]
    return f"{'measure' if plugin in MEASURES else 'mechanism'} {plugin}"


def _type(key: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Say in words what a key may hold."""
    return " or ".join(dict.fromkeys(_kinds(key, definitions)))


def _kinds(key: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    if "$ref" in key:
        title = _title(name := key["$ref"].rpartition("/")[2], definitions[name])
        yield f"[{title}](#{title.lower().replace(' ', '-')})"
    elif "anyOf" in key or "oneOf" in key:
        for one in key.get("anyOf", key.get("oneOf")):
            yield from _kinds(one, definitions)
    elif "enum" in key:
        yield ", ".join(f"`{value}`" for value in key["enum"])
    elif "const" in key:
        yield f"`{key['const']}`"
    elif key.get("type") == "array":
        yield "a list of them"
    elif key.get("type") == "object":
        yield "a chain of them"
    elif key.get("type") != "null":
        yield _limited(key)


def _limited(key: dict[str, Any]) -> str:
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = " and ".join(
        f"{sign} {key[word]:g}" for word, sign in signs.items() if abs(key.get(word, 2**62)) < 2**62
    )
    return f"{names[key['type']]} {limits}".strip()


def _default(key: dict[str, Any], required: bool) -> str:
    return "required" if required else _value(key.get("default"))


def tables_page() -> str:
    """Every table of the results: columns with type, unit and meaning."""
    from hushsweep.datasets.results.schema import SCHEMA_VERSION, TABLES

    parts = [
        "# Tables of the results",
        f"Columns of the Parquet files, schema version {SCHEMA_VERSION}; [Results](../results.md) says how to ask.",
    ]
    for name, columns in TABLES.items():
        parts += [f"## {name}"]
        rows = [(f"`{c.name}`", f"`{c.type}`", c.unit, _plain(c.meaning)) for c in columns]
        parts += _table(("column", "type", "unit", "meaning"), rows)
    return _joined(parts)


def library_page() -> str:
    """The packages that are meant to be imported, each with its first sentence."""
    rows = []
    for name in PACKAGES:
        module = importlib.import_module(f"hushsweep.{name}")
        rows.append((f"[`hushsweep.{name}`]({name}.md)", _plain((module.__doc__ or "").splitlines()[0])))
    first = "What the command line does can be done in Python, too; bounds are plain functions."
    return _joined(["# Library", first, *_table(("package", "what it holds"), rows)])


def package_page(name: str) -> str:
    """Every name that a package exports."""
    module = importlib.import_module(f"hushsweep.{name}")
    names = sorted(one for one in module.__all__ if not one.startswith("_"))
    return _joined(
        [f"# hushsweep.{name}", module.__doc__ or "", *(f"::: hushsweep.{name}.{one}" for one in names)]
    )


def _value(value: Any) -> str:
    """Write a default as a sweep file or a command line would have it."""
    if value is None or isinstance(value, dict) or value == [] or callable(value):
        return ""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    text = str(one) if isinstance(one, str | Path) else json.dumps(one)
    return f"`{text}`"


def _plain(text: str) -> str:
    """Keep characters that Markdown or HTML would take for markup."""
    return (
        re.sub(r"(?<!`)([<*_|\[\]])", r"\\\1", " ".join(text.split()))
        if "`" not in text
        else " ".join(text.split())
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in [heads, tuple("---" for _ in heads), *rows]]
    return ["\n".join(lines)] if rows else []


def _joined(parts: list[str]) -> str:
    """Join paragraphs; a code block stays in one piece."""
    return (
        re.sub(
            r"(```bash)\n\n|\n\n(```)(?=\n)",
            lambda m: f"{m[1]}\n" if m[1] else f"\n{m[2]}",
            "\n\n".join(parts),
        )
        + "\n"
    )
