"""Reconstruction errors image by image: the same for any shards, found again, and told where there are none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from attacks_support import attack_subject, noisy
from rows_support import assert_same_rows

from hushsweep.dashboards import run_query
from hushsweep.sweeps import run
from hushsweep.workers.measures import Reconstruction, Statistic, Subject
from hushsweep.workers.measures.base import FittedPoint
from hushsweep.workers.testing import check_measure

SWEEP = """
name: attacks
dataset: {name: digits}
model: {name: digits_mlp, weights: train, epochs: 4}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
execution: {shards: %(shards)s, batch_size: %(batch)s}
measures:
  - {name: reconstruction, attack: [blind, ridge], images: 150, candidates: 20}
  - {name: reconstruction, attack: decoder, epochs: 2, images: 150, pictures: 2}
  - {name: reconstruction, attack: map, steps: 30, total_variation: 1, images: 150}
%(more)s
"""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return attack_subject(tmp_path_factory.mktemp("cache"))


def rows_of(options: Reconstruction, subject: Subject, point: FittedPoint) -> pa.Table:
    (table,) = options.measure(subject, [point]).per_image
    return table


def statistics(options: Reconstruction, subject: Subject, point: FittedPoint) -> dict[str, Statistic]:
    return {found.name: found for found in options.summarise(rows_of(options, subject, point))}


def test_it_keeps_the_contract_of_measures() -> None:
    check_measure(Reconstruction(attack="ridge"))


def test_rows_and_summary_agree(subject: Subject) -> None:
    options = Reconstruction(attack="ridge", images=100, draws=2, candidates=25)
    rows = rows_of(options, subject, noisy("cut", 0.5 * subject.rms()))
    found = {one.name: one for one in options.summarise(rows)}
    mse = rows["mse"].to_numpy()
    assert found["mse"].value == pytest.approx(mse.mean())
    assert found["mse"].stderr == pytest.approx(mse.std(ddof=1) / 10)
    assert found["mse_worst_off"].value == pytest.approx(np.sort(mse)[:5].mean())
    assert found["mse_worst_off"].n == 5
    assert found["ssim"].value is None
    assert "window of 11" in str(found["ssim"].reason)
    assert found["reidentified"].reason == "among 25 candidates: chance 0.04"
    assert 0.1 < found["reidentified"].value <= 1
    std = float(subject.model.std)
    assert rows["mse_grey"].to_numpy() == pytest.approx(mse * (255 * std) ** 2, rel=1e-5)
    assert set(rows["draws"].to_pylist()) == {2}


def test_without_noise_everybody_is_found_again_and_recognised_as_before(subject: Subject) -> None:
    found = statistics(Reconstruction(attack="ridge", images=200), subject, noisy("input", 0.0))
    assert found["mse"].value < 1e-3
    assert found["reidentified"].value == 1.0
    blind = statistics(Reconstruction(attack="blind", images=200), subject, noisy("input", 0.0))
    assert blind["reidentified"].value <= 0.02


def test_the_secondary_label_is_read_off_the_reconstruction(subject: Subject) -> None:
    options = Reconstruction(attack="ridge", images=300, secondary=True)
    clear = statistics(options, subject, noisy("input", 0.01))["secondary"].value
    hidden = statistics(options, subject, noisy("input", 20.0))["secondary"].value
    assert clear > 0.6
    assert hidden < 0.35


def test_more_queries_make_a_better_reconstruction(subject: Subject) -> None:
    point = noisy("cut", 2 * subject.rms())
    errors = [
        statistics(Reconstruction(attack="ridge", images=300, queries=queries), subject, point)["mse"].value
        for queries in (1, 4, 16)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_an_attack_that_cannot_be_made_ready_is_a_failed_row_with_the_reason(subject: Subject) -> None:
    options = Reconstruction(attack="decoder", levels=(0.5, 2.0), epochs=1, images=20)
    far, near = noisy("cut", 9 * subject.rms()), noisy("cut", subject.rms())
    tables = list(options.measure(subject, [far, near]).per_image)
    assert set(tables[0]["status"].to_pylist()) == {"failed"}
    assert set(tables[1]["status"].to_pylist()) == {"complete"}
    with pytest.raises(
        ValueError, match=r"levels: expected a range that has the noise of every point, 8\.999 times"
    ):
        options.summarise(tables[0])


def test_what_is_not_finite_is_grey_and_has_an_error(subject: Subject) -> None:
    point = noisy("cut", 1e30)
    found = statistics(Reconstruction(attack="ridge", images=20), subject, point)
    assert np.isfinite(found["mse"].value)


def test_a_decoder_is_trained_once_and_found_again(tmp_path: Path) -> None:
    subject = attack_subject(tmp_path)
    options = Reconstruction(attack="decoder", epochs=1, images=50)
    point = noisy("cut", subject.rms())
    first = rows_of(options, subject, point)
    (file,) = (tmp_path / "attackers").glob("*.safetensors")
    written = file.stat().st_mtime_ns
    assert first["attacker"].to_pylist() == [file.stem] * 50
    again = rows_of(replace(options, images=30), subject, point)
    assert file.stat().st_mtime_ns == written
    shared = set(again["image_index"].to_pylist()) & set(first["image_index"].to_pylist())
    values = [
        dict(zip(t["image_index"].to_pylist(), t["mse"].to_pylist(), strict=True)) for t in (first, again)
    ]
    assert len(shared) > 3
    assert [values[0][i] for i in shared] == pytest.approx([values[1][i] for i in shared], rel=1e-5)
    # trained without a cache it is the same network
    alone = rows_of(options, replace(subject, cache=None), point)
    assert alone["mse"].to_pylist() == first["mse"].to_pylist()


def test_the_mask_tells_a_decoder_more(subject: Subject) -> None:
    from hushsweep.workers.measures.base import FittedStage

    class Hidden:
        """Half of the pixels give way to noise, and which differs from image to image."""

        def mask(self, values: torch.Tensor) -> torch.Tensor:
            seeds = (1000 * values.flatten(1).sum(1)).round().long() % 97
            kept = (torch.arange(64)[None] * 37 + seeds[:, None] * 61) % 5 < 2
            return kept.reshape(values.shape).to(values.dtype)

        def apply(self, values: torch.Tensor, noise: Any) -> torch.Tensor:
            return torch.where(self.mask(values) > 0, values, 2 * noise("gaussian"))

    point = FittedPoint(
        point_id="hidden", seed=0, stages=(FittedStage("input/0", "input", Hidden()),), leaves="input"
    )
    alone, told = (
        statistics(
            Reconstruction(attack="decoder", epochs=10, batch_size=64, images=300, masked=masked),
            replace(subject, cache=None),
            point,
        )["mse"].value
        for masked in (False, True)
    )
    assert told < 0.9 * alone


def test_rows_are_the_same_for_any_shards_and_an_attack_is_added_without_the_rest(tmp_path: Path) -> None:
    stores = [tmp_path / name for name in ("one", "many")]
    for results, shards, batch in zip(stores, (1, 5), (64, 17), strict=True):
        sweep = results.with_suffix(".yaml")
        sweep.write_text(SWEEP % {"shards": shards, "batch": batch, "more": ""})
        summary = run(sweep, results=results, local=True, mirror=False)
        assert not summary.failures
    assert_same_rows(*stores)
    sweep = stores[0].with_suffix(".yaml")
    sweep.write_text(
        SWEEP
        % {"shards": 1, "batch": 64, "more": "  - {name: reconstruction, attack: class_mean, images: 150}"}
    )
    summary = run(sweep, results=stores[0], local=True, mirror=False)
    assert (summary.computed, summary.failures) == (2, ())
    shown = run_query(stores[0], "SELECT kind, bound, count(*) AS n FROM pictures GROUP BY ALL ORDER BY kind")
    assert shown.to_pylist() == [
        {"kind": "original", "bound": None, "n": 4},
        {"kind": "reconstruction", "bound": "decoder", "n": 4},
    ]
