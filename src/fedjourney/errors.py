"""Errors a user can meet: each says where, what was expected, what came, and what to do.

FedjourneyError
├── ConfigError     the experiment file or the command line is wrong
├── DataError       the data are missing, unreadable or do not fit
└── RunError        a run could not be started, written or resumed
"""

import difflib
from collections.abc import Iterable


class FedjourneyError(Exception):
    """A user's mistake or an environment's fault; shown without a traceback, exit status 2."""


class ConfigError(FedjourneyError):
    """The experiment cannot be what is written."""


class DataError(FedjourneyError):
    """The data cannot be had, or are not what the experiment says."""


class RunError(FedjourneyError):
    """A run folder cannot be written, read or resumed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run, after saving; its argument is the run's folder."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` for the most similar of `names`, or an empty string.

    >>> nearest("fedagv", ["fedavg", "open_es"])
    ' Did you mean "fedavg"?'
    """
    known = {other.casefold(): other for other in names}
    close = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.6)
    return f' Did you mean "{known[close[0]]}"?' if close else ""
