"""Pictures of what a mechanism does to images: what they show, and that shards draw the same ones."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from attacks_support import attack_subject, noisy

from hushsweep.workers.measures import Masks, MeasureRows, Subject
from hushsweep.workers.measures.base import FittedPoint, FittedStage
from hushsweep.workers.measures.masks import pixel_weights
from hushsweep.workers.mechanisms import MECHANISMS, Unchanged
from hushsweep.workers.mechanisms.cloak import CloakConstants, FittedCloak
from hushsweep.workers.testing import check_measure

SHAPE = (1, 8, 8)
STD = torch.linspace(0, 3, 64).reshape(SHAPE)
KEPT = (STD <= 2).float()


def point(mechanism: object, name: str) -> FittedPoint:
    stage = FittedStage("input/0", "input", mechanism)
    return FittedPoint(point_id=name, seed=0, stages=(stage,), leaves="input")


def ani() -> FittedPoint:
    """Adaptive noise before it has learned anything."""
    mechanism = MECHANISMS["ani"](penalty=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return point(mechanism.bind(mechanism.client(SHAPE).eval().requires_grad_(False), "some"), "ani")


def cloak() -> FittedPoint:
    return point(FittedCloak("some", CloakConstants(STD, KEPT, torch.zeros(SHAPE))), "cloak")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return attack_subject(tmp_path_factory.mktemp("cache"))


def pictures(found: MeasureRows) -> dict[tuple[str, int, str], np.ndarray]:
    assert found.pictures is not None
    return {
        (row["point_id"], row["image_index"], row["kind"]): np.frombuffer(row["pixels"], np.uint8)
        for row in found.pictures.to_pylist()
    }


def test_it_keeps_its_contract() -> None:
    check_measure(Masks())
    with pytest.raises(ValueError, match="images"):
        Masks(images=0)


def test_what_is_no_image_has_no_picture() -> None:
    assert "acts at the cut" in str(Masks().inapplicable(noisy("cut", 1.0)))
    assert "nothing acts" in str(Masks().inapplicable(point(Unchanged(), "none")))
    assert Masks().inapplicable(ani()) is None


def test_pictures_show_the_image_its_weights_and_what_leaves(subject: Subject) -> None:
    found = pictures(Masks(images=3).measure(subject, [ani(), cloak(), noisy("input", 1.0)]))
    images = subject.activations.images
    indices = sorted({index for _, index, _ in found})
    assert indices == [int(images.indices[position]) for position in (0, 200, 400)]
    weights = pixel_weights(ani(), subject.activations.inputs([0]))
    assert weights is not None
    assert (found["ani", indices[0], "mask"] == (255 * weights).round().flatten().numpy()).all()
    for name, kinds in (("ani", 3), ("cloak", 3), ("input-gaussian-1.0-0", 2)):
        own = {
            kind: pixels for (of, index, kind), pixels in found.items() if (of, index) == (name, indices[1])
        }
        assert len(own) == kinds
        assert (own["original"] == images.images[200].ravel()).all()
        assert (own["transformed"] != own["original"]).mean() > 0.3
    weights = 255 * (KEPT / (1 + STD)).flatten()
    assert (found["cloak", indices[0], "mask"] == weights.round().numpy()).all()


def test_what_leaves_is_what_the_other_measures_see(subject: Subject) -> None:
    """Without noise left in it, Cloak sends the pixel; suppressed ones are mu, the mean grey level."""
    still = FittedCloak("still", CloakConstants(torch.zeros(SHAPE), KEPT, torch.zeros(SHAPE)))
    found = pictures(Masks(images=1).measure(subject, [point(still, "still")]))
    own = {kind: pixels for (_, _, kind), pixels in found.items()}
    kept = KEPT.flatten().numpy() > 0
    assert (own["transformed"][kept] == own["original"][kept]).all()
    mean = round(255 * float(subject.model.mean))
    assert (own["transformed"][~kept] == mean).all()
    assert (own["mask"][kept] == 255).all()
    assert (own["mask"][~kept] == 0).all()


def test_shards_draw_the_same_pictures(subject: Subject) -> None:
    points = [ani(), noisy("input", 1.0)]
    whole = Masks().measure(subject, points)
    size = len(subject.activations.images)
    parts = [
        Masks().measure(replace(subject, positions=positions), points)
        for positions in (range(200), range(200, 300), range(300, size))
    ]
    assert parts[1].pictures is None
    drawn = [pictures(part) for part in parts if part.pictures is not None]
    merged = {key: value.tobytes() for part in drawn for key, value in part.items()}
    assert merged == {key: value.tobytes() for key, value in pictures(whole).items()}
    rows = pa.concat_tables([table for part in parts for table in part.per_image])
    assert rows.num_rows == 2 * 4


def test_statistics_are_means_over_the_pictures(subject: Subject) -> None:
    loud, quiet = noisy("input", 2.0), noisy("input", 0.5)
    (table,) = Masks(images=8).measure(subject, [loud, quiet, ani()]).per_image
    found = {}
    for one in (loud, quiet, ani()):
        own = table.filter(pa.compute.equal(table["point_id"], one.point_id))
        found[one.point_id] = {statistic.name: statistic for statistic in Masks().summarise(own)}
    grey = [found[one.point_id]["rmse_grey"].value for one in (loud, quiet)]
    assert grey[0] == pytest.approx(4 * grey[1])
    assert grey[1] == pytest.approx(0.5 * 255 * float(subject.model.std), rel=0.1)
    assert found[loud.point_id]["weight_mean"].value is None
    assert "one size" in str(found[loud.point_id]["weight_mean"].reason)
    assert found["ani"]["weight_mean"].value == pytest.approx(0.5, abs=0.2), "half stays at first"


def test_of_nothing_there_is_no_mean(subject: Subject) -> None:
    (table,) = Masks().measure(replace(subject, positions=range(1, 2)), [ani()]).per_image
    with pytest.raises(ValueError, match="no decodable image"):
        Masks().summarise(table)
