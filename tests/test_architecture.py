"""Who may import whom, and that what is written in pyproject.toml is what is on disk."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("datasets", "workers", "dashboards", "sweeps")
ALLOWED = {
    "datasets": set(),
    "workers": {"datasets"},
    "dashboards": {"datasets"},
    "sweeps": {"datasets", "workers", "dashboards"},
}
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "hushsweep":
            other = rest.split(".")[0]
            assert other == folder or other in ALLOWED[folder], f"{path} imports {name}"
            if folder == "dashboards" and other == "datasets":
                assert rest.startswith("datasets.results"), f"{path} imports {name}"
        assert top not in FOLDERS, f"{path}: import hushsweep.{top}, not {top}"
        if top == "ray":
            assert folder == "sweeps", f"{path} imports ray"
        if top in {"mlflow", "duckdb"}:
            assert folder == "dashboards", f"{path} imports {top}"
        if top in {"torch", "torchvision", "timm"}:
            assert folder not in {"dashboards"}, f"{path} imports {top}"


def test_what_a_sweep_file_names_is_imported_in_one_place() -> None:
    """So that nothing is imported whose name was not looked at when the file was read."""
    importing = {"import_module", "__import__", "spec_from_file_location", "run_path", "run_module"}
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
                runs = called in importing or ast.unparse(node.func) in {"exec", "eval", "compile"}
                own = bool(node.args) and ast.unparse(node.args[0]).lstrip("f").startswith("'hushsweep.")
                found |= {(str(path.relative_to(ROOT)), called)} if runs and not own else set()
    assert found == {("datasets/plugins.py", "import_module")}


def test_packages_are_those_on_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {
        "hushsweep." + ".".join(init.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert set(settings["packages"]) == on_disk
    assert {name: folder.replace("/", ".") for name, folder in settings["package-dir"].items()} == {
        name: name.removeprefix("hushsweep.") for name in on_disk
    }


@pytest.mark.parametrize("package", sorted(p.parent for p in FILES if p.name == "__init__.py"))
def test_all_names_exist(package: Path) -> None:
    module = importlib.import_module("hushsweep." + ".".join(package.relative_to(ROOT).parts))
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None
    declared = {
        alias.asname
        for node in ast.walk(ast.parse((package / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert declared == set(getattr(module, "__all__", ())), "__all__ and the names for type checkers differ"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_bare_import_of_a_folder_is_refused(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"import hushsweep.{folder}" in done.stderr


@pytest.mark.parametrize("module", ["hushsweep.dashboards", "hushsweep.datasets.results"])
def test_results_open_without_torch(module: str) -> None:
    code = f"import sys, {module} as m; [getattr(m, n) for n in m.__all__]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd="/", check=False).returncode == 0


def test_workers_need_neither_ray_nor_mlflow_nor_pydantic() -> None:
    code = (
        "import sys\n"
        "for name in ('ray', 'mlflow', 'pydantic', 'duckdb', 'sklearn'): sys.modules[name] = None\n"
        "import hushsweep.workers.evaluate\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
