"""Options with which a strategy can be tried where its defaults do not do: name -> options.

A cohort of 7 of 8 clients suits every default but these.
"""

from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "fedper": {"personal": ["head"]},
    "fedrep": {"personal": ["head"]},
    "open_es": {"population": 32, "learning_rate": 0.3, "sigma": 0.1},
    "fedadagrad": {"learning_rate": 1.0},
    "fedadam": {"learning_rate": 0.3, "beta_1": 0.5},
    "fedyogi": {"learning_rate": 0.3, "beta_1": 0.5},
    "fedsgd": {"learning_rate": 0.5},
    "fedchain": {"switch": 8, "learning_rate": 0.5},
    "qfedavg": {"q": 0.1},
    "fedavgm": {"momentum": 0.5},
    "feddyn": {"alpha": 1.0},
    "centred_clipping": {"radius": 10.0},
}
"""For the quadratic of tests/quadratic.py, whose parameters are `body` and `head`."""

ON_DIGITS: dict[str, dict[str, Any]] = OPTIONS | {
    "fedper": {"personal": ["3.*"]},
    "fedrep": {"personal": ["3.*"]},
    "open_es": {"population": 4},
}
"""For the small network of the fixture `small`."""
