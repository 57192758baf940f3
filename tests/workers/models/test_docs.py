"""docs/models.md tells what there is, and its Python runs."""

import re
from dataclasses import fields
from pathlib import Path

from hushsweep.workers.models import ModelConfig
from hushsweep.workers.models.check import MADE_HERE
from hushsweep.workers.models.files import SUFFIXES
from hushsweep.workers.models.networks import OWN

TEXT = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_name_and_every_setting_is_told():
    for name in (*OWN, *MADE_HERE, *SUFFIXES, "pretrained", "HF_HUB_OFFLINE"):
        assert f"`{name}" in TEXT, name
    for architecture in OWN.values():
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{architecture.name}`"))
        assert f"{architecture.epochs} epochs" in row
    told_elsewhere = {"batch_size": "batches of 32", "learning_rate": "step 1e-3"}
    for field in fields(ModelConfig):
        assert told_elsewhere.get(field.name, field.name) in TEXT, field.name


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code.replace('"digits_mlp")', '"digits_mlp", epochs=1, training_threads=1)'), names)
    assert names["model"].feature_shape == (128,)
