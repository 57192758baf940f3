"""``python -m hushsweep.sweeps`` is ``hushsweep``."""

from hushsweep.sweeps.cli import main

if __name__ == "__main__":
    main()
