"""What differential privacy needs beyond the core: packages that a plain installation does not have."""

from importlib.util import find_spec

from hushsweep.workers.errors import PlugInError

_PACKAGES = ("dp_accounting", "opacus", "imblearn")


def require_dp(what: str) -> None:
    """Make sure that the extra ``dp`` is installed, without importing any of it.

    Args:
        what: Begins the sentence, for example ``mechanism 'dp_sgd'``.

    Raises:
        PlugInError: a package of the extra is missing.
    """
    if any(find_spec(package) is None for package in _PACKAGES):
        raise PlugInError(f"{what} needs the extra dp; run: pip install 'hushsweep[dp]'")
