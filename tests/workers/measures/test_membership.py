"""What attacks find in a network that has learned its images by heart, and in one that has learned nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from attacks_support import attack_subject, noisy
from dp_support import spent
from rows_support import assert_same_rows
from torch import Tensor, nn

from hushsweep.dashboards import run_query
from hushsweep.datasets.images import DatasetConfig
from hushsweep.sweeps import run
from hushsweep.workers.accounting import Spending, person_epsilon
from hushsweep.workers.attacks.membership import rate_bound
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.measures import Membership, Subject
from hushsweep.workers.measures.base import FittedPoint, FittedStage
from hushsweep.workers.measures.membership import HOLDS_FOR
from hushsweep.workers.testing import check_measure

CLEAN = noisy("cut", 0.0)
SMALL = Membership(images=150)


@dataclass(frozen=True)
class Accounted:
    """Changes nothing and knows what its training cost."""

    spending: Spending

    def apply(self, activations: Tensor, noise: Callable[[str], Tensor]) -> Tensor:
        return activations


def accounted(spending: Spending) -> FittedPoint:
    stage = FittedStage("input/0", "input", Accounted(spending))
    return FittedPoint(point_id="accounted", seed=0, stages=(stage,), leaves="cut")


class ByHeart:
    """A network that is sure of an image in so far as it has seen it."""

    feature_shape = (64,)

    def __init__(self, subject: Subject) -> None:
        train = subject.part("train")
        self.normalise = subject.model.normalise
        self.seen = self.features(self.normalise(torch.from_numpy(np.array(train.images))))
        self.labels = nn.functional.one_hot(torch.from_numpy(np.array(train.labels)), 10).float()

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def head(self, a: Tensor) -> Tensor:
        return 8 * torch.exp(-3 * torch.cdist(a, self.seen)) @ self.labels


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    dataset = DatasetConfig(name="digits", split="test", limit=300, train_limit=500)
    found = attack_subject(tmp_path_factory.mktemp("cache"), dataset=dataset)
    return replace(found, key={"model": {"weights": "random"}})


@pytest.fixture(scope="module")
def by_heart(subject: Subject) -> Subject:
    model: Any = ByHeart(subject)
    return replace(
        subject,
        activations=replace(subject.activations, model=model),
        key={"model": {"weights": "train"}},
    )


def rows_of(options: Membership, subject: Subject, point: FittedPoint = CLEAN) -> pa.Table:
    (table,) = options.measure(subject, [point]).per_image
    return table


def statistics(options: Membership, subject: Subject, point: FittedPoint = CLEAN) -> dict[str, Any]:
    return {found.name: found for found in options.summarise(rows_of(options, subject, point))}


def test_it_keeps_its_contract() -> None:
    check_measure(Membership())
    assert Membership().inapplicable(CLEAN) is None
    with pytest.raises(ValueError, match="images: expected a number >= 8, got 7"):
        Membership(images=7)


def test_what_is_known_by_heart_is_found(by_heart: Subject) -> None:
    found = statistics(Membership(), by_heart)
    for attack in ("loss", "lira"):
        assert found[f"{attack}_auc"].value > 0.99
        assert found[f"{attack}_auc"].reason is None
        rate = found[f"{attack}_tpr_fpr_0.01"]
        assert rate.value > 0.9
        assert found[f"{attack}_tpr_fpr_0.01_low"].value < rate.value
        assert rate.value <= found[f"{attack}_tpr_fpr_0.01_high"].value <= 1
    assert (found["loss_auc"].n, found["lira_auc"].n) == (500 + 300, 500 + 150)
    # 300 non-members, and half of them for lira, cannot tell one in a thousand
    missing = found["loss_tpr_fpr_0.001"]
    assert missing.value is None
    assert missing.reason == "300 non-members: one of them is more than 0.1%, it takes 1000"


def test_a_network_that_has_learned_nothing_tells_nothing(subject: Subject) -> None:
    found = statistics(Membership(), subject)
    for attack in ("loss", "lira"):
        area = found[f"{attack}_auc"]
        # two attacks at a false-alarm rate of 1e-4 each
        assert abs(area.value - 0.5) < 3.9 * area.stderr
        assert "0.5 is right" in area.reason


def test_noise_hides_what_is_known(by_heart: Subject) -> None:
    found = [
        statistics(Membership(), by_heart, noisy("input", std))["loss_auc"].value for std in (0.02, 0.2, 50.0)
    ]
    assert found[0] > found[1] > 0.6
    assert found[2] == pytest.approx(0.5, abs=0.1)


def test_scores_are_those_of_the_softmax(by_heart: Subject) -> None:
    rows = rows_of(SMALL, by_heart).filter(pa.compute.equal(pa.compute.field("member"), 1))
    train, model = by_heart.part("train"), by_heart.model
    places = {int(index): place for place, index in enumerate(train.indices)}
    chosen = [places[index] for index in rows["image_index"].to_pylist()]
    logits = model.head(model.features(model.normalise(torch.from_numpy(np.array(train.images[chosen])))))
    p = logits.double().softmax(1)[torch.arange(len(chosen)), torch.from_numpy(train.labels[chosen])].numpy()
    assert rows["label"].to_pylist() == train.labels[chosen].tolist()
    assert rows["image"].to_pylist()[:3] == [train.names[place] for place in chosen[:3]]
    np.testing.assert_allclose(rows["loss"].to_numpy(), -np.log(p), rtol=1e-5)
    np.testing.assert_allclose(rows["confidence"].to_numpy(), np.log(p / (1 - p)), rtol=1e-4)


def test_logits_beyond_all_bounds_have_scores(by_heart: Subject) -> None:
    class Diverged(ByHeart):
        def head(self, a: Tensor) -> Tensor:
            return torch.full((len(a), 10), torch.nan)

    model: Any = Diverged(by_heart)
    diverged = replace(by_heart, activations=replace(by_heart.activations, model=model))
    assert statistics(SMALL, diverged)["loss_auc"].value == 0.5


def test_the_bound_stands_beside_it(by_heart: Subject) -> None:
    spending = spent(4.0, steps=100, sampling_rate=0.02, copies=2)
    found = statistics(SMALL, by_heart, accounted(spending))
    epsilon = person_epsilon(spending).epsilon
    for rate in (0.001, 0.01):
        bound = found[f"tpr_bound_fpr_{rate}"]
        assert bound.value == rate_bound(epsilon, spending.delta, rate)
        assert bound.holds_for == HOLDS_FOR
        assert "2 of the training records" in bound.reason


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (CLEAN, "keeps no account"),
        (accounted(spent(0.0, steps=3)), "no noise in the training"),
        (accounted(spent(1.0, steps=3, copies=0)), "mixes records"),
    ],
)
def test_without_an_epsilon_there_is_no_bound(by_heart: Subject, point: FittedPoint, said: str) -> None:
    found = statistics(SMALL, by_heart, point)
    for rate in (0.001, 0.01):
        assert found[f"tpr_bound_fpr_{rate}"].value is None
        assert said in found[f"tpr_bound_fpr_{rate}"].reason
    assert found["loss_auc"].value > 0.99


def test_any_shards_give_the_same_rows_to_the_last_bit(by_heart: Subject) -> None:
    point = noisy("input", 0.3)
    whole = rows_of(SMALL, by_heart, point)
    parts = [
        rows_of(SMALL, replace(by_heart, positions=range(*ends)), point)
        for ends in ((0, 1), (1, 140), (140, 141), (141, 300))
    ]
    keys = [("member", "ascending"), ("image_index", "ascending")]
    assert pa.concat_tables(parts).sort_by(keys).equals(whole.sort_by(keys))
    assert SMALL.summarise(pa.concat_tables(parts[::-1])) == SMALL.summarise(whole)


def test_members_have_noise_of_their_own(by_heart: Subject) -> None:
    """An image at the same place in the other split draws other noise."""
    images = by_heart.activations.images
    twins = replace(images, info=replace(images.info, split="train"))
    twice = replace(by_heart, part=lambda name: twins)
    rows = rows_of(SMALL, twice, noisy("input", 0.3)).to_pylist()
    members = {row["image_index"]: row["loss"] for row in rows if row["member"]}
    others = {row["image_index"]: row["loss"] for row in rows if not row["member"]}
    assert members.keys() == others.keys()
    assert all(members[index] != others[index] for index in members)
    rows = rows_of(SMALL, twice).to_pylist()
    assert len({(row["image_index"], row["loss"]) for row in rows}) == 150


def test_half_of_the_images_when_the_others_chose_the_level(by_heart: Subject) -> None:
    rows = rows_of(Membership(), by_heart, replace(CLEAN, step=2)).to_pylist()
    indices = by_heart.activations.images.indices
    assert sorted(row["image_index"] for row in rows if not row["member"]) == sorted(indices[1::2])


def test_what_cannot_be_told_apart_is_refused(subject: Subject) -> None:
    same = replace(subject, part=lambda name: subject.activations.images)
    with pytest.raises(PlugInError, match="reported split 'test' is the one that was learned from"):
        Membership().measure(same, [CLEAN])
    few = attack_subject(subject.cache, dataset=DatasetConfig(name="digits", split="test", train_limit=5))
    with pytest.raises(PlugInError, match="needs 8 images of the train part and as many reported"):
        Membership().measure(few, [CLEAN])
    rows = rows_of(SMALL, subject).filter(pa.compute.equal(pa.compute.field("member"), 1))
    with pytest.raises(ValueError, match="8 members and as many non-members"):
        SMALL.summarise(rows)


SWEEP = """
name: members
dataset: {name: digits, limit: 90, train_limit: 120}
model: {name: digits_mlp, weights: train}
mechanism:
  - {name: gaussian, noise_scale: 1}
  - {name: private_activations, noise_multiplier: 2, epochs: 1, batch_size: 32}
measures:
  - {name: epsilon}
  - {name: membership, images: 60}
"""


def test_sweeps_have_the_same_rows_from_any_shards(tmp_path: Path) -> None:
    for name, execution in (("one", "{batch_size: 64}"), ("three", "{batch_size: 7, shards: 3}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.yaml").write_text(f"{SWEEP}execution: {execution}\n")
        results = tmp_path / name / "results"
        assert run(tmp_path / name / "sweep.yaml", results=results, local=True, mirror=False).exit_code == 0
    assert_same_rows(tmp_path / "one" / "results", tmp_path / "three" / "results")
    rows = run_query(
        tmp_path / "three" / "results",
        "SELECT mechanism, statistic, value, status, reason FROM measurements",
    ).to_pylist()
    by_name = {(row["mechanism"], row["statistic"]): row for row in rows}
    assert by_name["gaussian", None]["status"] == "not_applicable"
    assert "keeps no account" in by_name["gaussian", None]["reason"]
    assert by_name["private_activations", "epsilon_pld"]["value"] == pytest.approx(1.9930, rel=0.1)
    assert 0.01 < by_name["private_activations", "tpr_bound_fpr_0.01"]["value"] < 1
    assert by_name["gaussian", "tpr_bound_fpr_0.01"]["status"] == "not_applicable"
