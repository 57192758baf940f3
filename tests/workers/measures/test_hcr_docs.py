"""docs/hcr.md lists the options as they are, and its Python reproduces a stored row."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests_support import digits_model, digits_set

from hushsweep.workers.features import Activations
from hushsweep.workers.measures import Hcr
from hushsweep.workers.measures.base import FittedPoint, FittedStage, Subject
from hushsweep.workers.mechanisms import AdditiveNoise

TEXT = (Path(__file__).parents[3] / "docs" / "hcr.md").read_text(encoding="utf-8")


def test_every_option_is_told_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TEXT, flags=re.MULTILINE))
    words = {"images": "all", "max_iterations": "2 x inputs"}
    assert rows.keys() == {field.name for field in fields(Hcr)}
    for field in fields(Hcr):
        assert rows[field.name].strip().strip("`") == words.get(field.name, str(field.default)), field.name


def test_the_check_of_a_stored_shift_reproduces_its_row(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    images, model = digits_set(tmp_path, limit=2), digits_model()
    activations = Activations(
        model=model, images=images, logits=True, device=torch.device("cpu"), batch_size=2
    )
    subject = Subject(activations=activations, positions=range(2), rms=lambda: 0.9)
    point = FittedPoint(
        point_id="p", seed=0, stages=(FittedStage("cut/0", "cut", AdditiveNoise("gaussian", 1.3)),)
    )
    rows = Hcr(restarts=1, rounds=2).measure(subject, [point])
    assert rows.shifts is not None
    for image, row, shift in zip(
        images.images, pa.concat_tables(rows.per_image).to_pylist(), rows.shifts.to_pylist(), strict=True
    ):
        modes = names["check"](
            model, np.array(image), shift["input_shift"], shift["reference_noise_std"], 1.3
        )  # type: ignore[operator]
        assert modes.shape == (1, 8, 8)
        assert modes.mean() == pytest.approx(row["std_bound_mean"], rel=1e-6)
        assert modes.max() == pytest.approx(row["std_bound_max"], rel=1e-6)
