import os
from pathlib import Path

import pytest

BESIDE_CHECKOUT = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real data sets (mnist/, cifar10/, imagenet-sample/, ...); skips where there is none."""
    given = os.environ.get("HUSHSWEEP_DATA")
    root = Path(given) if given else BESIDE_CHECKOUT
    if not root.is_dir():
        pytest.skip(f"no real data sets: '{root}' is not a folder; set HUSHSWEEP_DATA")
    return root
