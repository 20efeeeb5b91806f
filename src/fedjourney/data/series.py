"""Real series over time, from the tables that statsmodels ships."""

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from annotated_types import Ge, Le, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._cache import SPLITS
from fedjourney.data._common import examples_of, fingerprint_of
from fedjourney.errors import DataError

Set: TypeAlias = Literal["elnino", "co2", "elec_equip", "sunspots", "nile", "macrodata", "fertility"]
Table: TypeAlias = list[list[str]]

_REGIONS = ("LCN", "OED", "OSS", "PSS")
"""Of the World Bank's rows without gaps, those that sum up other rows."""


def series(
    source: Source,
    /,
    *,
    sets: list[Set],
    window: Annotated[int, Ge(2), Le(10_000)] = 24,
    horizon: Annotated[int, Ge(1), Le(10_000)] = 12,
    validation: Annotated[float, Ge(0), Lt(0.5)] = 0.15,
    test: Annotated[float, Ge(0), Lt(0.5)] = 0.15,
    unit: Annotated[float, Ge(0)] = 0.0,
) -> Dataset:
    """Real series that statsmodels ships (extra `series`): a window of each, and what came next; column "series".

    Monthly: `elnino` (sea surface temperature, 1950-2010), `co2` (Mauna Loa, 1958-2001, means of weeks, gaps drawn
    straight), `elec_equip` (turnover of Europe's makers of electrical equipment, 1995-2016). Quarterly: `macrodata`
    (twelve series of the United States, 1959-2009). Yearly: `sunspots` (1700-2008), `nile` (flow at Aswan, 1871-1970),
    `fertility` (births per woman in the 188 countries without gaps, 1960-2011; World Bank).

    Time splits each series: the values of its last `test` share are forecast in test and nowhere else, those before
    them in validation. A window may reach back over the border, what is to be forecast may not.

    Args:
        source: unused; time decides the splits.
        sets: one or more, each once; they should have one period.
        window: values that a forecast sees.
        horizon: values that are forecast.
        validation: share of each series' values, before the test part.
        test: share of each series' values, the last ones.
        unit: values are divided by it; 0 gives each series a unit of its own, the root mean square change from one
            value to the next (as the M5 competition scales errors; Makridakis et al. 2022), and measures it from its
            mean, both of its training part.
    """
    if len(set(sets)) < len(sets):
        raise DataError(f"[data] sets: expected each name once, got {sets}.")
    folder = _folder()
    values = {name: line for one in sets for name, line in _READERS[one](_table(folder, one)).items()}
    if not values:
        raise DataError("[data] sets: expected one name or more, got none.")
    windows: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    owners: list[str] = []
    for name, line in values.items():
        tested, validated = round(test * len(line)), round(validation * len(line))
        borders = (window, len(line) - tested - validated, len(line) - tested, len(line))
        if borders[1] < window + horizon:
            raise DataError(
                f"[data] window: expected at least {window + horizon} values of {name} to train on, got {borders[1]} "
                f"of {len(line)}. Lower window, horizon, validation or test."
            )
        for split, share, count in (("validation", validation, validated), ("test", test, tested)):
            if share and count < horizon:
                raise DataError(
                    f"[data] {split}: expected the horizon of {horizon} values at least, or a share of 0, got {count} "
                    f"of the {len(line)} values of {name}. Raise {split}, or lower horizon."
                )
        own = line[: borders[1]]
        line = line / unit if unit else (line - own.mean()) / np.sqrt(np.mean(np.diff(own) ** 2))
        for split, first, end in zip(SPLITS, borders, borders[1:], strict=False):
            starts = np.arange(first - window, end - window - horizon + 1)
            windows[split].append(line[starts[:, None] + np.arange(window + horizon)].astype(np.float32))
        owners += [name] * len(windows["train"][-1])
    joined = {split: np.concatenate(rows) for split, rows in windows.items()}
    made = [examples_of({"past": rows[:, :window]}, {"future": rows[:, window:]}) for rows in joined.values()]
    parts = made[0], made[1], made[2]
    return Dataset(" + ".join(sets), *parts, {"series": np.array(owners)}, horizon, fingerprint_of(parts))


def _folder() -> Path:
    found = importlib.util.find_spec("statsmodels")
    if found is None or not found.submodule_search_locations:
        raise DataError(
            '[data] "series" needs the package statsmodels, which is not installed. '
            'Install the extra: pip install "fedjourney[series]".'
        )
    return Path(found.submodule_search_locations[0]) / "datasets"


def _table(folder: Path, name: str) -> Table:
    """Return the rows of a table, its header first."""
    file = folder / name / f"{name}.csv"
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file}: expected a table that statsmodels ships, cannot be read ({error}). Install statsmodels anew."
        ) from None


def _column(name: str) -> Callable[[Table], dict[str, np.ndarray]]:
    """Return a reader of one series that stands in the last column."""
    return lambda table: {name: np.array([float(row[-1]) for row in table[1:]])}


def _elnino(table: Table) -> dict[str, np.ndarray]:
    return {"elnino": np.array([float(cell) for row in table[1:] for cell in row[1:]])}


def _co2(table: Table) -> dict[str, np.ndarray]:
    """Return monthly means; months without a measurement lie on the line between their neighbours."""
    weeks: dict[int, list[float]] = {}
    for day, value in table[1:]:
        if value:
            weeks.setdefault(int(day[:4]) * 12 + int(day[4:6]), []).append(float(value))
    months = np.arange(min(weeks), max(weeks) + 1)
    return {"co2": np.interp(months, sorted(weeks), [float(np.mean(weeks[month])) for month in sorted(weeks)])}


def _macrodata(table: Table) -> dict[str, np.ndarray]:
    return {name: np.array([float(row[at]) for row in table[1:]]) for at, name in enumerate(table[0]) if at >= 2}


def _fertility(table: Table) -> dict[str, np.ndarray]:
    first, end = table[0].index("1960"), table[0].index("2011") + 1
    rows = [row for row in table[1:] if all(row[first:end]) and row[1] not in _REGIONS]
    return {row[0]: np.array([float(cell) for cell in row[first:end]]) for row in rows}


_READERS: dict[str, Callable[[Table], dict[str, np.ndarray]]] = {
    "elnino": _elnino,
    "co2": _co2,
    "elec_equip": _column("elec_equip"),
    "sunspots": _column("sunspots"),
    "nile": _column("nile"),
    "macrodata": _macrodata,
    "fertility": _fertility,
}
