"""What each bound promises, in one sentence: the words of reports and figures."""

from typing import NamedTuple


class Promise(NamedTuple):
    """How people call a bound and what it says.

    Attributes:
        title: Its name in figures and headings.
        sentence: What no attacker can do, or what an estimate is.
    """

    title: str
    sentence: str


_PROMISES = {
    "cramer_rao": Promise(
        "Cramér-Rao",
        "No unbiased reconstruction of a mode has a smaller variance; it uses every direction that moves the features "
        "at this image, and the share of a mode that no direction reaches stands in `non_identifiable`, not in the "
        "number.",
    ),
    "barankin": Promise(
        "Barankin",
        "No unbiased reconstruction of a mode has a smaller variance; many shifts of the image count at once, so it "
        "is never below the Hammersley-Chapman-Robbins bound from the same shifts.",
    ),
    "hcr": Promise(
        "Hammersley-Chapman-Robbins",
        "No unbiased reconstruction of a mode has a smaller standard deviation; each mode takes the best single shift "
        "of the image that was tried.",
    ),
    "dfil": Promise(
        "Fisher information (1/dFIL)",
        "No unbiased reconstruction has a smaller mean squared error per pixel; it averages over the pixels, so single "
        "ones may be known better.",
    ),
    "van_trees": Promise(
        "van Trees",
        "No reconstruction at all, biased or with prior knowledge, has a smaller mean squared error per pixel on "
        "average over images drawn from the stated prior; for one fixed image it promises nothing.",
    ),
    "two_point": Promise(
        "Two-point (Le Cam)",
        "No reconstruction at all, biased or with prior knowledge, has a smaller mean squared error on average over "
        "the image and one other valid image whose features lie `distance` away; the `radius` is how far apart the "
        "two images are.",
    ),
    "mmse": Promise(
        "Linear-Gaussian Bayes level",
        "No bound: the error of a Bayes attacker that knows the data's covariance and the network's slope at the true "
        "image, an oracle to compare bounds and attacks with.",
    ),
    "rero": Promise(
        "Reconstruction robustness",
        "No attacker picks the right one among the measured images more often than the success bound, even if it "
        "knows all of them, provided that each was equally likely beforehand.",
    ),
    "cramer_rao_estimate": Promise(
        "Cramér-Rao, estimated",
        "No bound: a Monte Carlo estimate of what the Cramér-Rao bound would be, for networks whose exact Jacobian is "
        "too large.",
    ),
}
ORDER = tuple(_PROMISES)
"""The bounds that hushsweep computes, in the order in which reports show them."""


def is_bound(holds_for: str | None) -> bool:
    """Tell a bound from an estimate by the words of its rows."""
    return holds_for is not None and not holds_for.startswith("no bound")


def promise(bound: str) -> Promise:
    """Look up what `bound` promises; one from a plug-in is called by its own name."""
    return _PROMISES.get(bound, Promise(bound, "A bound that hushsweep has no sentence for."))


def place(bound: str) -> tuple[int, str]:
    """Sort key of `bound`: known ones in :data:`ORDER`, then others by name."""
    return (ORDER.index(bound) if bound in ORDER else len(ORDER), bound)
