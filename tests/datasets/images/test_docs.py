import re
from dataclasses import fields
from pathlib import Path

import pytest

from hushsweep.datasets.images import LOADERS, DatasetConfig, describe_dataset
from hushsweep.datasets.images.published import CIFAR10, CIFAR100, DIGITS, FASHION_MNIST, MNIST, PNEUMONIA
from hushsweep.datasets.tasks import TASKS

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"


def first_cells(heading):
    section = GUIDE.read_text().split(heading)[1]
    return re.findall(r"^\| `(\w+)` \|(.*)", section.split("\n\n", 2)[1], re.MULTILINE)


def test_every_key_and_every_loader_is_explained():
    assert [key for key, _ in first_cells("say where\nit lies:\n\n```")] == [
        field.name for field in fields(DatasetConfig)
    ]
    assert [name for name, _ in first_cells("how to obtain it")] == list(LOADERS)


@pytest.mark.parametrize(
    "published", [DIGITS, MNIST, FASHION_MNIST, CIFAR10, CIFAR100, PNEUMONIA], ids=lambda p: p.name
)
def test_normalisations_are_those_of_the_code(published):
    row = dict(first_cells("how to obtain it"))[published.name]
    last = row.split("|")[-2].split("(")[0]
    for numbers, documented in zip((published.mean, published.std), last.split(";"), strict=True):
        assert tuple(map(float, documented.split())) == (
            numbers if len(documented.split()) > 1 else numbers[:1]
        )


def test_examples_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    tasks, loader, use = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "documented_stripes.py").write_text(loader)
    monkeypatch.syspath_prepend(tmp_path)
    assert describe_dataset(DatasetConfig(name="documented_stripes:open_stripes")).total == 6
    exec(compile(use, str(GUIDE), "exec"), {})
    assert "(100, 1, 32, 32) test/00000 ()" in capsys.readouterr().out
    exec(compile(tasks, str(GUIDE), "exec"), {})
    assert "ImageSet(digits/train: 500 images 1x8x8)" in capsys.readouterr().out


def test_every_task_is_explained():
    listed = {
        name: re.findall(r"`(\w+)`", rest.split("|")[0])
        for name, rest in first_cells("label for each:\n\n```")
    }
    assert listed == {name: list(task.datasets) for name, task in TASKS.items()}
