"""fedjourney: federated learning, simulated fast and deployed unchanged, with the same bits on every engine.

>>> import fedjourney                                            # doctest: +SKIP
>>> result = fedjourney.run(fedjourney.load("configs/quickstart.toml"))  # doctest: +SKIP
>>> result.rounds[-1]["test"], result.parameters                 # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjourney.comparison import Compared, compare
    from fedjourney.config import Experiment, load
    from fedjourney.errors import FedjourneyError
    from fedjourney.experiment import resume, run
    from fedjourney.results import Result
    from fedjourney.simulation import Simulated, simulate

__all__ = [
    "Compared",
    "Experiment",
    "FedjourneyError",
    "Result",
    "Simulated",
    "compare",
    "load",
    "resume",
    "run",
    "simulate",
]
__version__ = "0.1.0"

_HOMES = {
    "Compared": "comparison",
    "compare": "comparison",
    "Experiment": "config",
    "load": "config",
    "FedjourneyError": "errors",
    "run": "experiment",
    "resume": "experiment",
    "Result": "results",
    "Simulated": "simulation",
    "simulate": "simulation",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `--help` needs neither torch nor flwr."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fedjourney' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"fedjourney.{_HOMES[name]}"), name)
