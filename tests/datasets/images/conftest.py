import io

import numpy as np
import pytest
from PIL import Image


def jpeg(seed, size=(20, 16), mode="RGB"):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize(size).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def make_jpeg():
    return jpeg


@pytest.fixture
def make_folder(tmp_path):
    """Returns a function that writes a class folder tree of JPEGs and returns its root."""

    def make(classes=3, each=4, name="photos", **options):
        root = tmp_path / name
        for label in range(classes):
            folder = root / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(each):
                (folder / f"{i:03d}.JPEG").write_bytes(jpeg(label * each + i, **options))
        return root

    return make
