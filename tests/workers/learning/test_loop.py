"""The loop of every training: killed anywhere and taken up again, it ends with the same bits."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.learning import History, Schedule, run_epochs

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, 0] > 0


class Killed(Exception):
    """Stands for a process that ends."""


class Small:
    """A network with dropout and batch normalisation, whose result depends on all that a resume must restore."""

    def __init__(self, *, epochs: int = 6, size: int = 50, learning_rate: float = 0.1, **schedule) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.net = nn.Sequential(
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
            )
        self.optimiser = SGD(self.net.parameters(), lr=learning_rate, momentum=0.9)
        self.schedule = Schedule(
            **{"seed": "s", "epochs": epochs, "batch_size": 16, "threads": 1, "cosine": True, **schedule}
        )
        self.size, self.seen, self.rates = size, list[np.ndarray](), list[float]()

    def step(self, rows: np.ndarray) -> torch.Tensor:
        self.seen.append(rows)
        self.rates.append(self.optimiser.param_groups[0]["lr"])
        loss = nn.functional.cross_entropy(self.net(X[rows]), Y[rows].long())
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def run(self, checkpoint: Path | None = None, *, stop_after: int | None = None, **options) -> History:
        def after(epoch: int) -> float | None:
            given = options.get("scores")
            return None if given is None else given[epoch - 1]

        def before(epoch: int) -> None:
            if epoch == stop_after:
                raise Killed

        return run_epochs(
            {"net": self.net},
            {"net": self.optimiser},
            self.schedule,
            self.step,
            size=self.size,
            device=torch.device("cpu"),
            checkpoint=checkpoint,
            before_epoch=before,
            after_epoch=after,
            keep_best=options.get("keep_best", False),
        )

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.net.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("killed", [0, 1, 3, 5])
@pytest.mark.parametrize("keep_best", [False, True])
def test_resumed_from_any_epoch_it_ends_with_the_same_bits(
    tmp_path: Path, killed: int, keep_best: bool
) -> None:
    scores = [0.1, 0.5, 0.9, 0.2, 0.9, 0.3]
    whole = Small()
    expected = whole.run(scores=scores, keep_best=keep_best)
    first = Small()
    with pytest.raises(Killed):
        first.run(tmp_path / "c", stop_after=killed, scores=scores, keep_best=keep_best)
    torch.manual_seed(123)  # a new process has another global stream
    second = Small()
    history = second.run(tmp_path / "c", scores=scores, keep_best=keep_best)
    assert len(second.seen) == (6 - killed) * 4, "only what is missing is done"
    assert_equal(whole.weights(), second.weights())
    assert history == expected


def test_a_training_that_was_finished_trains_nothing(tmp_path: Path) -> None:
    first, second = Small(), Small()
    first.run(tmp_path / "c")
    second.run(tmp_path / "c")
    assert second.seen == []
    assert_equal(first.weights(), second.weights())


def test_a_damaged_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"no checkpoint")
    first, second = Small(), Small()
    first.run(tmp_path / "c")
    second.run()
    assert_equal(first.weights(), second.weights())


def test_the_best_epoch_is_kept_the_first_of_equals() -> None:
    until_third = Small()
    with pytest.raises(Killed):
        until_third.run(stop_after=3)
    best = Small()
    history = best.run(scores=[0.1, 0.5, 0.9, 0.2, 0.9, 0.3], keep_best=True)
    assert history.best == 2
    assert_equal(best.weights(), until_third.weights())
    assert History().best is None
    assert History(scores=[None, 0.2, None]).best == 1


def test_learning_rates_follow_half_a_cosine() -> None:
    small = Small(epochs=3)
    small.run()
    steps = 3 * 4
    expected = [0.05 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]
    assert small.rates == pytest.approx(expected, rel=1e-12)
    flat = Small(epochs=2, cosine=False)
    flat.run()
    assert flat.rates == [0.1] * 8


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    small = Small(epochs=2)
    small.run()
    first, second = np.concatenate(small.seen[:4]), np.concatenate(small.seen[4:])
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)
    other = Small(epochs=1, seed="t")
    other.run()
    assert not np.array_equal(np.concatenate(other.seen), first)


def test_a_last_batch_of_one_image_is_left_out() -> None:
    small = Small(epochs=1, size=33)
    small.run()
    assert [len(rows) for rows in small.seen] == [16, 16]


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    small = Small(epochs=2, size=7)
    small.run()
    assert [len(rows) for rows in small.seen] == [7, 7]


def test_the_global_stream_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Small(epochs=1).run()
    assert torch.equal(torch.rand(3), expected)


def test_divergence_names_epoch_and_learning_rate(tmp_path: Path) -> None:
    small = Small(learning_rate=1e30)
    with pytest.raises(
        PlugInError,
        match=r"training diverged in epoch \d of 6 \(loss (nan|inf)\) with learning_rate 1e\+30; choose a smaller",
    ):
        small.run(tmp_path / "c")


def test_divergence_names_every_learning_rate_where_they_differ() -> None:
    small = Small(learning_rate=1e30)
    client = nn.Linear(1, 1)
    with pytest.raises(PlugInError, match=r"with learning rates 0\.01 \(client\), 1e\+30 \(server\); choose"):
        run_epochs(
            {"client": client, "server": small.net},
            {"client": SGD(client.parameters(), lr=0.01), "server": small.optimiser},
            small.schedule,
            small.step,
            size=50,
            device=torch.device("cpu"),
            checkpoint=None,
        )
