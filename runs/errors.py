"""What can go wrong with stored runs. Each message is one line: what happened, why, what to do next.

`exit_code` is what a command line should leave with: 4 where the run is missing, incomplete or ambiguous, 1 elsewhere.
"""


class RunError(Exception):
    """A run could not be read, written or found."""

    exit_code = 1


class RunNotFound(RunError):
    """The run, or a file of it, is missing, incomplete, or named ambiguously."""

    exit_code = 4


class RunDamaged(RunError):
    """A stored file is not what was written: truncated, altered, or never one of ours."""


class RunBusy(RunError):
    """Another process holds the run."""


class StoreTooNew(RunError):
    """A file was written by a later version, whose format this one does not know."""


class StoreFull(RunError):
    """The disk, or the user's quota on it, is full."""
