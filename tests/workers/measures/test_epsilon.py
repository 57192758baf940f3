"""Rows of the measure epsilon: what is stated, what is null and why, whatever the shards."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pytest
from attacks_support import DIGITS, attack_subject
from dp_support import spent
from torch import Tensor

from hushsweep.workers.accounting import Phase, Spending, person_epsilon, training_epsilons
from hushsweep.workers.measures import Epsilon, Subject
from hushsweep.workers.measures.base import FittedPoint, FittedStage
from hushsweep.workers.measures.epsilon import NO_NOISE, NO_NUMBER, spending_of
from hushsweep.workers.mechanisms import AdditiveNoise
from hushsweep.workers.testing import check_measure


@dataclass(frozen=True)
class Trained:
    """Changes nothing and knows what it cost."""

    spending: Spending | None

    def apply(self, activations: Tensor, noise: Callable[[str], Tensor]) -> Tensor:
        return activations


def point(spending: Spending | None) -> FittedPoint:
    stages = (
        FittedStage("input/0", "input", Trained(spending)),
        FittedStage("cut/1", "cut", AdditiveNoise("gaussian", 1.0)),
    )
    return FittedPoint(point_id="p", seed=0, stages=stages)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return attack_subject(tmp_path_factory.mktemp("cache"), dataset=replace(DIGITS, limit=20))


def statistics(subject: Subject, spending: Spending, **options: Any) -> dict[str, Any]:
    measure = Epsilon(**options)
    (rows,) = measure.measure(subject, [point(spending)]).per_image
    return {found.name: found for found in measure.summarise(rows)}


def test_it_keeps_its_contract() -> None:
    check_measure(Epsilon())
    check_measure(Epsilon(max_order=512))
    with pytest.raises(ValueError, match="max_order: expected a number >= 63, got 9"):
        Epsilon(max_order=9)


def test_only_what_kept_an_account_has_an_epsilon() -> None:
    assert "keeps no account" in Epsilon().inapplicable(point(None))
    assert "keeps no account" in Epsilon().inapplicable(FittedPoint(point_id="p", seed=0, stages=()))
    assert Epsilon().inapplicable(point(spent(1.0))) is None
    assert spending_of(point(spent(2.0))) == spent(2.0)


def test_sampled_training(subject: Subject) -> None:
    spending = spent(2.0, steps=100, sampling_rate=0.02, copies=2)
    found, expected = statistics(subject, spending), training_epsilons(spending)
    for name in ("pld", "rdp", "rdp_classic"):
        assert found[f"epsilon_{name}"].value == getattr(expected, name)
        assert found[f"epsilon_{name}"].unit == "nat"
        assert found[f"epsilon_{name}"].reason is None
    assert found["order_rdp"].value == expected.rdp_order
    assert found["epsilon_person"].value == person_epsilon(spending).epsilon > 1.5 * expected.pld
    assert "2 of the training records" in found["epsilon_person"].reason
    assert found["epsilon_label"].value is None
    assert "image and label together" in found["epsilon_label"].reason
    assert found["epsilon_query"].value is None
    assert "queries are not private" in found["epsilon_query"].reason
    numbers = {name: found[name].value for name in ("delta", "noise_multiplier", "steps", "sampling_rate")}
    assert numbers == {"delta": 1 / 75_000, "noise_multiplier": 2.0, "steps": 100, "sampling_rate": 0.02}
    assert found["examples"].value == found["delta"].n == 50_000


def test_a_best_order_at_the_end_is_a_warning(subject: Subject) -> None:
    spending = spent(100.0, steps=10)
    found = statistics(subject, spending)
    for name in ("epsilon_rdp_classic", "order_rdp_classic"):
        assert "the best RDP order 63 is the largest that there is" in found[name].reason
    assert found["epsilon_pld"].reason is None
    wider = statistics(subject, spending, max_order=4096)
    assert wider["epsilon_rdp_classic"].value < 0.1 * found["epsilon_rdp_classic"].value


def test_activations_that_are_released(subject: Subject) -> None:
    released = spent(
        2.0,
        steps=1,
        sampling_rate=1.0,
        relation="replace_one",
        label_epsilon=math.inf,
        query_noise_multiplier=2.0,
    )
    found = statistics(subject, released)
    assert "labels are released in clear" in found["epsilon_pld"].reason
    assert "one replaced record" in found["epsilon_person"].reason
    assert found["epsilon_label"].value is None
    assert "in clear" in found["epsilon_label"].reason
    assert found["epsilon_query"].value == pytest.approx(found["epsilon_pld"].value)
    answered = statistics(subject, replace(released, label_epsilon=0.7))
    assert answered["epsilon_label"].value == 0.7
    assert answered["epsilon_pld"].value == pytest.approx(found["epsilon_pld"].value + 0.7)
    assert "clear" not in answered["epsilon_pld"].reason


def test_what_is_infinite_or_unknown_is_null(subject: Subject) -> None:
    found = statistics(subject, spent(0.0, steps=5))
    for name in ("epsilon_pld", "epsilon_rdp", "epsilon_rdp_classic", "epsilon_person"):
        assert (found[name].value, found[name].reason) == (None, NO_NOISE)
    assert "order_rdp" not in found
    assert found["noise_multiplier"].value == 0
    mixed = statistics(subject, spent(1.0, steps=5, copies=0))
    assert mixed["epsilon_person"].value is None
    assert "mixes records" in mixed["epsilon_person"].reason
    assert mixed["epsilon_pld"].value > 0


def test_what_the_accountant_cannot_find_is_not_called_noiseless(subject: Subject) -> None:
    found = statistics(subject, spent(1.0, steps=1000, sampling_rate=0.1, delta=1e-40))["epsilon_pld"]
    assert (found.value, found.reason) == (None, NO_NUMBER)


def test_two_phases_have_numbers_of_their_own(subject: Subject) -> None:
    phases = (
        *spent(4.0, steps=50, sampling_rate=0.01).phases,
        Phase(noise_multiplier=3.0, steps=2, relation="replace_one", examples=40_000),
    )
    found = statistics(subject, Spending(phases=phases, delta=1e-5))
    assert (found["steps"].value, found["steps_2"].value) == (50, 2)
    assert (found["examples"].value, found["examples_2"].value) == (50_000, 40_000)
    assert found["epsilon_pld"].value > training_epsilons(Spending(phases=phases[1:], delta=1e-5)).pld


def test_the_first_shard_says_it_for_all(subject: Subject) -> None:
    points = [point(spent(1.0, steps=5))]
    whole = pa.concat_tables(Epsilon().measure(subject, points).per_image)
    shards = [
        pa.concat_tables(Epsilon().measure(replace(subject, positions=range(*ends)), points).per_image)
        for ends in ((0, 7), (7, 14), (14, 20))
    ]
    assert pa.concat_tables(shards).equals(whole)
    assert [len(shard) for shard in shards[1:]] == [0, 0]
