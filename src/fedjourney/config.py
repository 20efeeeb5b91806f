"""An experiment: one TOML file, checked to the last key before any work."""

import json
import logging
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from fedjourney import plugins
from fedjourney.errors import ConfigError, nearest

TABLES = (
    "experiment",
    "data",
    "partition",
    "model",
    "task",
    "update",
    "transform",
    "strategy",
    "numerics",
    "engine",
)

EXPERIMENT: dict[str, tuple[Any, Any]] = {
    "name": (str, "experiment"),
    "seed": (Annotated[int, Ge(0)], 0),
    "rounds": (Annotated[int, Ge(1)], 10),
    "evaluate_every": (Annotated[int, Ge(0)], 1),  # rounds; 0 = only before the first and after the last
    "cohort": (Any, 1.0),  # a whole number of clients, or a fraction of them in (0, 1]
    "min_replies": (Annotated[int, Ge(1)], 1),
    "timeout": (Annotated[float, Gt(0)], 3600.0),  # seconds an exchange with clients may take
    "holdout": (Annotated[float, Ge(0)], 0.1),  # share of each shard kept for the client's own evaluation
    "cosine_every": (Annotated[int, Ge(1)] | None, None),  # rounds; the step's angle to the true gradient, None = never
}
NUMERICS: dict[str, tuple[Any, Any]] = {
    "dtype": (Literal["float32", "float64"], "float32"),
    "device": (str, "cpu"),  # cpu, cuda, cuda:1, mps, or auto: the best that is here
    "threads": (Annotated[int, Ge(1), Le(1024)], 1),
    "lanes": (Annotated[int, Ge(0), Le(4096)], 0),  # clients trained at once; 0 = by the rule of numerics.py
    "compile": (bool, False),  # whether local steps are compiled
    "tf32": (bool, False),  # whether CUDA may round float32 products to TF32
    "mixed_precision": (bool, False),  # whether the forward pass computes in bfloat16
}
WITHOUT_BITS = ("engine",)
"""Tables that may differ between a run and its resumption, or between machines: they decide no bits."""


@dataclass(frozen=True)
class Experiment:
    """A checked experiment: every table resolved, every default written out.

    Attributes:
        tables: name of table -> its resolved options (`transform`: a list of tables).
        where: the file, as messages begin with it.
        base_dir: folder of the file, against which relative paths in `[data]` are read.
    """

    tables: dict[str, Any]
    base_dir: Path = field(default_factory=Path, compare=False)
    where: str = field(default="", compare=False)

    def __getitem__(self, table: str) -> Any:
        """Return a resolved table."""
        return self.tables[table]

    @property
    def seed(self) -> int:
        """The seed every draw is derived from."""
        return int(self.tables["experiment"]["seed"])

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return int(self.tables["experiment"]["rounds"])

    @property
    def foreign(self) -> bool:
        """Whether somebody else's code ("module:Name") takes part in what clients do."""
        tables = [self.tables[kind] for kind in ("model", "task", "update", "strategy") if kind in self.tables]
        return any(":" in table["name"] for table in [*tables, *self.tables["transform"]])

    def text(self) -> str:
        """Return the resolved experiment as TOML, which can be run again."""
        import tomli_w

        return tomli_w.dumps(_present({key: value for key, value in self.tables.items() if value != []}))

    def bits(self) -> dict[str, Any]:
        """Return the tables that decide bits: all but `[engine]`."""
        return {key: value for key, value in self.tables.items() if key not in WITHOUT_BITS}


def load(path: str | Path, overrides: Sequence[str] = (), *, engine: str | None = None) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the TOML file.
        overrides: `table.key=value`, the value as TOML (text may stand without quotes); `table.key=` takes out what
            the file says.
        engine: taken in place of the file's; the options of another one are dropped with it.

    Raises:
        ConfigError: with file, table, key, what was expected and what was got.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else [])
        raise ConfigError(f"{path}: no such file. Expected an experiment in TOML.{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}). Expected an experiment in TOML.") from None
    return parse(text, overrides, where=f"{path}: ", base_dir=_origin(path), engine=engine)


def _present(value: Any) -> Any:
    """Return tables without the options that are None: TOML has no word for what is absent."""
    if isinstance(value, dict):
        return {key: _present(item) for key, item in value.items() if item is not None}
    return [_present(item) for item in value] if isinstance(value, list) else value


def _origin(path: Path) -> Path:
    """Return the folder that relative paths refer to: a run folder remembers that of the file it came from."""
    try:
        return Path(json.loads((path.parent / "run.json").read_text())["base_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return path.resolve().parent


def parse(
    text: str,
    overrides: Sequence[str] = (),
    *,
    where: str = "",
    base_dir: Path | None = None,
    engine: str | None = None,
) -> Experiment:
    """Check an experiment given as TOML text (see `load`)."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}not valid TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{where}not valid TOML: nested too deep.") from None
    table = raw.get("engine", DEFAULTS["engine"])
    if engine is not None and not (isinstance(table, dict) and table.get("name") == engine):
        raw["engine"] = {"name": engine}
    before = {kind: dict(table) for kind, table in raw.items() if isinstance(table, dict)}
    for override in overrides:
        _override(raw, override)
    _leave_out(raw, before, overrides)
    for key, value in raw.items():
        if key not in TABLES:
            raise ConfigError(f"{where}unknown table [{key}]. There are: {', '.join(TABLES)}.{nearest(key, TABLES)}")
        wanted = list if key == "transform" else dict
        if not isinstance(value, wanted):
            written = "[[transform]]" if key == "transform" else f"[{key}]"
            raise ConfigError(f"{where}{key}: expected a table {written}, got {value!r}.")
    tables: dict[str, Any] = {}
    for key in TABLES:
        table = raw.get(key, DEFAULTS.get(key, {}))
        if key == "experiment":
            tables[key] = plugins.check_fields(EXPERIMENT, table, f"{where}[experiment]")
        elif key == "numerics":
            tables[key] = plugins.check_fields(NUMERICS, table, f"{where}[numerics]")
        elif key == "transform":
            tables[key] = [_transform(one, where) for one in table]
        elif key == "update" and not _reads_update(raw, where):
            if key in raw and "strategy.name" not in _named(overrides):
                name = raw["strategy"]["name"]
                raise ConfigError(
                    f'{where}[update] is set, but strategy "{name}" does not use it: its clients take no '
                    "gradient steps. Remove [update]."
                )
        else:
            if key not in raw and key not in DEFAULTS:
                raise ConfigError(
                    f"{where}[{key}] is missing. Add it with a name; there are: {', '.join(plugins.names(key))}."
                )
            tables[key] = plugins.resolve(key, table, where)
    _check_together(tables, where)
    return Experiment(tables, base_dir or Path.cwd(), where)


DEFAULTS: Mapping[str, Any] = {
    "experiment": {},
    "partition": {"name": "iid"},
    "task": {"name": "classification"},
    "update": {"name": "sgd"},
    "transform": [],
    "strategy": {"name": "fedavg"},
    "numerics": {},
    "engine": {"name": "local"},
}


def _reads_update(raw: dict[str, Any], where: str) -> bool:
    """Return whether the strategy uses `[update]` at all."""
    strategy = plugins.resolve("strategy", raw.get("strategy", DEFAULTS["strategy"]), where)
    return bool(getattr(plugins.load("strategy", strategy["name"]), "uses_update", True))


def _transform(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}[[transform]]: expected a table with a name, got {table!r}.")
    return plugins.resolve("transform", table, where)


def _check_together(tables: dict[str, Any], where: str) -> None:
    experiment = tables["experiment"]
    cohort, place = experiment["cohort"], f"{where}[experiment] "
    if type(cohort) not in (int, float) or not cohort > 0 or (isinstance(cohort, float) and cohort > 1):
        raise ConfigError(
            f"{place}cohort: expected a number of clients (1, 2, …) or a fraction in (0, 1], got {cohort!r}."
        )
    if not re.fullmatch(r"[\w.-]+", experiment["name"]):
        raise ConfigError(
            f"{place}name: expected letters, digits, dots and dashes (it names a folder), got {experiment['name']!r}."
        )
    if experiment["holdout"] >= 1:
        raise ConfigError(f"{place}holdout: expected a share below 1, got {experiment['holdout']!r}.")
    experiment["timeout"] = float(experiment["timeout"])


def cohort_size(experiment: Experiment, clients: int) -> int:
    """Return the number of clients asked each round.

    Raises:
        ConfigError: more are wanted than there are, or than `min_replies` allows.
    """
    table = experiment["experiment"]
    wanted = table["cohort"]
    size = max(1, round(wanted * clients)) if isinstance(wanted, float) else int(wanted)
    if size > clients:
        raise ConfigError(
            f"[experiment] cohort: expected at most the {clients} clients of [partition], got {size}. "
            "Lower cohort, or raise the number of clients."
        )
    if table["min_replies"] > size:
        raise ConfigError(
            f"[experiment] min_replies: expected at most the cohort of {size}, got {table['min_replies']}. "
            "No round could ever count."
        )
    return size


def _leave_out(raw: dict[str, Any], before: dict[str, dict[str, Any]], overrides: Sequence[str]) -> None:
    """Take out of a table the file's options that a plug-in named by an override cannot take, and say so.

    What it has under the same name and of the same kind (clients, learning_rate) stays, and so does all that was set on
    the command line.
    """
    given = _named(overrides)
    for kind, old in before.items():
        table = raw[kind]
        if f"{kind}.name" not in given or kind not in plugins.KINDS or table.get("name") == old.get("name"):
            continue
        of_file = {key: value for key, value in old.items() if key != "name" and f"{kind}.{key}" not in given}
        try:
            kept = plugins.fitting(kind, table["name"], of_file)
        except (ConfigError, LookupError, TypeError, ValueError, NameError):
            continue  # said where the plug-in is resolved
        raw[kind] = {key: value for key, value in table.items() if key not in of_file or key in kept}
        if gone := [key for key in of_file if key not in kept]:
            then, now = old.get("name"), table["name"]
            rest = ", ".join(f"{key} = {value!r}" for key, value in kept.items())
            logging.getLogger("fedjourney").warning(
                f'[{kind}] {", ".join(gone)}, which the file has for "{then}", left out: "{now}" takes no such. '
                f"Kept from the file: {rest or 'nothing'}."
            )


def _named(overrides: Sequence[str]) -> set[str]:
    """Return the settings, `table.key`, that overrides are about."""
    return {"".join(override.partition("=")[0].split()) for override in overrides}


def _override(raw: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    parts = [part.strip() for part in path.split(".")]
    if not equals or len(parts) != 2 or not all(parts):
        raise ConfigError(f"--set: expected table.key=value, got {override!r}. Example: --set experiment.rounds=5")
    if "\n" in value:
        raise ConfigError(f"--set {path}: expected one line, got {value!r}.")
    table, key = parts
    if table not in TABLES or table == "transform":
        usable = [name for name in TABLES if name != "transform"]
        raise ConfigError(
            f"--set {override}: no table [{table}]. There are: {', '.join(usable)}.{nearest(table, usable)}"
        )
    target = raw.setdefault(table, dict(DEFAULTS.get(table, {}))) if value.strip() else raw.get(table, {})
    if not isinstance(target, dict):
        raise ConfigError(f"--set {override}: [{table}] is not a table in this file.")
    put(target, table, key, value)


def put(target: dict[str, Any], table: str, key: str, value: str) -> None:
    """Set an option of a table to what `--set` gives: TOML, or text without quotes; nothing takes it out.

    Raises:
        ConfigError: there is none to take out.
    """
    if not value.strip():
        if key not in target:
            says = ", ".join(target) or "nothing"
            raise ConfigError(f"--set {table}.{key}=: the file does not say {key} in [{table}]. It says: {says}.")
        del target[key]
        return
    try:
        target[key] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        target[key] = value.strip()
