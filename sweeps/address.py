"""Which clusters may be reached: the rules of a Ray token."""

import os

from hushsweep.sweeps.errors import RunError

TOKEN_VARIABLES = frozenset({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"})
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the command of a job."""


def check_token(*, insecure: bool) -> None:
    """Refuse to reach a cluster without a token, unless the user insists.

    A job runs inside its cluster already: whoever submitted it was asked.

    Raises:
        RunError: the environment has no token.
    """
    if not has_token() and not insecure and _JOB_VARIABLE not in os.environ:
        raise RunError(
            "--address: no Ray token is set, and whoever reaches an open cluster can run code on it; "
            "set RAY_AUTH_TOKEN_PATH to the cluster's token file (and RAY_AUTH_MODE=token), or pass --insecure"
        )


def has_token() -> bool:
    """Whether the environment names a token."""
    return bool(TOKEN_VARIABLES & set(os.environ))
