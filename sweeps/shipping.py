"""What a job brings along: the sweep file and hushsweep itself, so that a cluster needs only what we depend on."""

import shutil
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

FOLDERS = ("datasets", "workers", "dashboards", "sweeps")
SPEC_FOLDER = "sweep"
"""Apart from the package, whatever the sweep file is called."""


def ship(spec: Path, folder: Path) -> Path:
    """Fill ``folder`` with what the job's working folder has to hold.

    Returns:
        The sweep file's place in it, relative.
    """
    for name in FOLDERS:
        _copy_package(name, folder / "hushsweep" / name)
    _copy_metadata(folder)
    place = Path(SPEC_FOLDER) / spec.name
    (folder / SPEC_FOLDER).mkdir()
    shutil.copyfile(spec, folder / place)
    return place


def _copy_package(name: str, to: Path) -> None:
    package = import_module(f"hushsweep.{name}")
    shutil.copytree(Path(package.__path__[0]), to, ignore=shutil.ignore_patterns("__pycache__", ".*"))


def _copy_metadata(folder: Path) -> None:
    """Bring the name and version along: there is no other place that says which hushsweep it is."""
    found = distribution("hushsweep")
    text = found.read_text("METADATA") or found.read_text("PKG-INFO")
    assert text is not None, "an installed package has metadata"
    home = folder / f"hushsweep-{found.version}.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(text, encoding="utf-8")
