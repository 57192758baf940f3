"""What can go wrong with a results folder."""


class StoreError(ValueError):
    """The results folder cannot be read or written as asked; the message names the place and the mend."""


class LockHeldError(StoreError):
    """Another process holds the lock; the message names it."""


class FileGoneError(StoreError):
    """A file is no longer where it was listed: it has just been merged with others, or somebody deleted it."""
