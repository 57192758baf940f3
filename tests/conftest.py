import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser_support import started_browser
from bucket_support import new_address, s3_server
from filelock import FileLock

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = Path(__file__).resolve().parents[1] / "sweeps" / "examples"
BESIDE_CHECKOUT = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real data sets (mnist/, cifar10/, imagenet-sample/, ...); skips where there is none."""
    given = os.environ.get("HUSHSWEEP_DATA")
    root = Path(given) if given else BESIDE_CHECKOUT
    if not root.is_dir():
        pytest.skip(f"no real data sets: '{root}' is not a folder; set HUSHSWEEP_DATA")
    return root


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment in which a real S3 server is reached; skips where there is none to start."""
    with s3_server(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def bucket(s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address in S3 where nothing is yet, reached by this process; copies lie in a folder of the test."""
    for name, value in {**s3, "HUSHSWEEP_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return new_address()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A real browser for :func:`browser_support.visited`; skips where there is none."""
    with started_browser() as started:
        yield started


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of README's two sweeps, computed once for all processes of a test run: to be read, never written."""
    from hushsweep.sweeps import run

    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    results, done = root / "quickstart", root / "quickstart.done"
    with FileLock(root / "quickstart.lock"):
        if not done.exists():
            for name in ("quickstart", "quickstart_tradeoff"):
                assert (
                    run(EXAMPLES / f"{name}.yaml", results=results, local=True, mirror=False).exit_code == 0
                )
            done.touch()
    return results
