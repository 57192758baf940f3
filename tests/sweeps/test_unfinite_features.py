"""A network that gives no numbers for one image: what needs them of all images fails by name, the rest goes on."""

from pathlib import Path

import pytest

from hushsweep.dashboards import run_query
from hushsweep.sweeps import run

NETWORK = """
from torch import nn


class Overflowing(nn.Module):
    def __init__(self, *, num_classes, in_channels):
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, 16), nn.ReLU())
        self.second = nn.Linear(16, num_classes)

    def forward_features(self, x):
        # the brightest of these digits alone has a pixel sum beyond this
        bright = x.flatten(1).sum(1, keepdim=True) > BRIGHT
        return self.first(x).masked_fill(bright, float("nan"))

    def forward_head(self, features):
        return self.second(features)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))
"""
SWEEP = """
name: unfinite
dataset: {name: digits, limit: 30}
model: {name: "overflowing_plugin:Overflowing", weights: random}
mechanism:
  - {name: none}
  - {name: gaussian, noise_std: 0.5}
  - {name: gaussian, noise_scale: [0.5, 2]}
measures: {name: accuracy}
"""


def test_the_image_is_named_and_what_needs_no_rms_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from tests_support import digits_model, digits_set

    images = digits_set(tmp_path / "digits", limit=30)
    sums = digits_model().normalise(torch.from_numpy(images.images.copy())).flatten(1).sum(1)
    first, second = sums.topk(2).values.tolist()
    (tmp_path / "overflowing_plugin.py").write_text(NETWORK.replace("BRIGHT", str((first + second) / 2)))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    summary = run(
        tmp_path / "sweep.yaml",
        results=tmp_path / "results",
        local=True,
        mirror=False,
        allow_plugins=["overflowing_plugin"],
    )
    assert (summary.exit_code, summary.missing, summary.wanted) == (1, 2, 4)
    name = images.names[int(sums.argmax())]
    assert summary.failures == (f"the activations of image {name!r} at the cut are not finite",)
    rows = run_query(
        tmp_path / "results",
        "SELECT DISTINCT mechanism, noise_scale, status, n FROM measurements "
        "WHERE statistic = 'top1' OR status = 'failed' ORDER BY ALL",
    ).to_pylist()
    assert [(row["noise_scale"], row["status"], row["n"]) for row in rows] == [
        (0.5, "failed", None),
        (2.0, "failed", None),
        (None, "complete", 30),
        (None, "complete", 30),
    ]
