"""Noise belongs to (seed, purpose, image, draw), is the same in any company, and has the law that it should have."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hushsweep.workers.noise import UNIT_LAWS, unit_noise


def draw(law: str, indices: list[int], *, seed: int = 3, purpose: str = "cut/0", draw: int = 0, shape=(4, 5)):
    return unit_noise(law, shape, seed=seed, purpose=purpose, image_indices=indices, draw=draw)


@pytest.mark.parametrize("law", UNIT_LAWS)
@given(indices=st.lists(st.integers(0, 2**40), min_size=1, max_size=6))
def test_an_image_has_its_noise_in_any_batch(law: str, indices: list[int]) -> None:
    together = draw(law, indices)
    for row, index in zip(together, indices, strict=True):
        assert torch.equal(row, draw(law, [index])[0])


@pytest.mark.parametrize("law", UNIT_LAWS)
def test_every_key_has_a_stream_of_its_own(law: str) -> None:
    reference = draw(law, [5])
    for other in (
        draw(law, [6]),
        draw(law, [5], seed=4),
        draw(law, [5], draw=1),
        draw(law, [5], purpose="input/0"),
    ):
        assert not torch.equal(reference, other)
        assert abs(np.corrcoef(reference.ravel(), other.ravel())[0, 1]) < 0.9


@pytest.mark.parametrize(
    ("law", "cdf"), [("gaussian", stats.norm.cdf), ("laplace", stats.laplace(scale=2**-0.5).cdf)]
)
def test_the_law_is_the_law(law: str, cdf) -> None:
    """Kolmogorov-Smirnov over many streams: false alarm 1e-3 per law; standard deviation 1 within 5 sigma."""
    sample = draw(law, list(range(50)), shape=(400,)).numpy().ravel()
    assert stats.kstest(sample, cdf).pvalue > 1e-3
    kurtosis = {"gaussian": 3, "laplace": 6}[law]
    assert abs(sample.std() - 1) < 5 * np.sqrt((kurtosis - 1) / (4 * sample.size))


def test_golden_values_hold_across_versions() -> None:
    """Stored rows rest on these streams; a change here has to raise the version of every mechanism."""
    found = draw("gaussian", [7], shape=(3,))[0]
    assert found.tolist() == pytest.approx(GAUSSIAN)
    assert draw("laplace", [7], shape=(3,))[0].tolist() == pytest.approx(LAPLACE)


GAUSSIAN = [2.0350027084350586, 0.7272401452064514, 1.1534277200698853]
LAPLACE = [0.0678694024682045, -0.15173549950122833, 0.20524130761623383]


def test_an_unknown_law_is_named() -> None:
    with pytest.raises(ValueError, match="unknown noise law 'cauchy'; known: gaussian, laplace"):
        draw("cauchy", [0])
