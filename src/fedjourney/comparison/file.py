"""The comparison file: read, and checked to the last key before any work."""

import inspect
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from fedjourney import config, plugins
from fedjourney.comparison.design import AXES, Arm, Budget, Claim, Comparison, Range, Tuning, merged
from fedjourney.errors import ConfigError, nearest

TABLES = ("comparison", "base", "budget", "tuning", "scenarios", "arms", "claim")
OVERRIDES = tuple(name for name in config.TABLES if name != "engine")
ARM: dict[str, tuple[Any, Any]] = {
    "twin": (str, ""),
    "paired": (bool, True),
    "tune": (dict[str, list[float]], {}),
    "beside": (Literal["", "floor", "ceiling", "control"], ""),  # told, never ranked, named by no claim
    "metric": (str, ""),  # of an arm beside whose clients have models of their own: "personal/accuracy"
}
COMPARISON: dict[str, tuple[Any, Any]] = {
    "name": (str, "comparison"),
    "says": (str, ""),  # the question, in a sentence
    "metric": (str, "accuracy"),  # of the test set; what is better, its name says (metrics.py)
    "seeds": (list[Annotated[int, Ge(0)]], [0, 1, 2, 3, 4]),
    "reference": (str, ""),  # the arm that those without a twin are compared with; "" = the first
    "targets": (list[float], []),  # of the metric on validation; what it costs to reach them is told
    "only": (list[str], []),  # the arms that are computed, and no claim of others; [] = all
}
TUNING: dict[str, tuple[Any, Any]] = {
    "trials": (Annotated[int, Ge(1)], 16),
    "seeds": (list[Annotated[int, Ge(0)]], [1000, 1001]),
    "from": (str, ""),  # results.json of a comparison of the same arms: its settings, nothing is tuned again
}
CLAIM: dict[str, tuple[Any, Any]] = {
    "name": (str, inspect.Parameter.empty),
    "says": (str, ""),
    "arms": (list[str], inspect.Parameter.empty),
    "metric": (str, ""),  # "" = the comparison's; or a cost: rounds, bytes, evaluations
    "direction": (Literal["greater", "less", "equal"], "greater"),
    "margin": (float, 0.0),  # below 0: "not worse by more than"
    "ratio": (Annotated[float, Ge(1)], 1.0),
    "target": (float | None, None),
    "budget": (dict[str, Any], {}),  # {} = all of [budget]
    "scenarios": (list[str], []),  # [] = all
    "between": (list[str], []),
}
Positive = Annotated[float, Gt(0)]
BUDGET: dict[str, tuple[Any, Any]] = {axis: (list[Positive], []) for axis in AXES}


def is_comparison(path: Path) -> bool:
    """Return whether a TOML file is a comparison, not an experiment."""
    try:
        return "arms" in tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False


def load(path: str | Path, overrides: Sequence[str] = ()) -> Comparison:
    """Read and check a comparison file.

    Args:
        path: the TOML file.
        overrides: `table.key=value`, the value as TOML; a path may be longer ("base.experiment.rounds=5").

    Raises:
        ConfigError: with file, table, key, what was expected and what was got.
    """
    path = Path(path)
    raw = _read(path)
    if "arms" not in raw and set(raw) <= set(config.TABLES):
        raise ConfigError(f"{path}: an experiment, not a comparison. Run it with `fedjourney run {path}`.")
    for override in overrides:
        _override(raw, override)
    told = ["fedjourney", "compare", str(path), *(part for override in overrides for part in ("--set", override))]
    return replace(parse(raw, where=f"{path}: ", base_dir=path.resolve().parent), command=shlex.join(told))


def parse(raw: dict[str, Any], *, where: str = "", base_dir: Path | None = None) -> Comparison:
    """Check a comparison given as tables (see `load`)."""
    base_dir = base_dir or Path.cwd()
    _known(raw, TABLES, f"{where}unknown table", lambda key: f"[{key}]")
    for key in TABLES:
        wanted: Any = list if key == "claim" else dict
        if key in raw and not isinstance(raw[key], wanted):
            written = "[[claim]]" if key == "claim" else f"[{key}]"
            raise ConfigError(f"{where}{key}: expected {written}, got {raw[key]!r}.")
    told = plugins.check_fields(COMPARISON, raw.get("comparison", {}), f"{where}[comparison]")
    _folder_name(told["name"], f"{where}[comparison] name")
    seeds = _distinct(told["seeds"], f"{where}[comparison] seeds")
    base = _base(raw.get("base", {}), where, base_dir)
    scenarios = {
        name: _tables(table, f"{where}[scenarios.{name}]") for name, table in raw.get("scenarios", {"all": {}}).items()
    }
    tuned = raw.get("tuning")
    arms = {name: _arm(name, table, where, tuned is not None) for name, table in raw.get("arms", {}).items()}
    arms, others = _only(told["only"], arms, f"{where}[comparison] only")
    contest = {name: arm for name, arm in arms.items() if not arm.beside}
    if not contest:
        raise ConfigError(
            f"{where}[arms] expected one arm or more, [arms.NAME] with what it changes, got none but those beside."
            if arms
            else f"{where}[arms] expected one arm or more, [arms.NAME] with what it changes, got none."
        )
    for name in (*scenarios, *arms):
        _folder_name(name, f"{where}[arms] or [scenarios]")
    for arm in arms.values():
        if arm.twin:
            _one_of(arm.twin, contest, f"{where}[arms.{arm.name}] twin", "arm")
    reference = told["reference"] if told["reference"] not in ("", *others) else next(iter(contest))
    _one_of(reference, contest, f"{where}[comparison] reference", "arm")
    budgets = _budgets(raw.get("budget", {}), f"{where}[budget]")
    if not budgets:
        raise ConfigError(f"{where}[budget] expected rounds, bytes or evaluations, got none. Add one: rounds = [20]")
    tuning = None
    if tuned is not None:
        checked = plugins.check_fields(TUNING, tuned, f"{where}[tuning]")
        source = (base_dir / Path(checked["from"]).expanduser()).resolve() if checked["from"] else None
        tuning = Tuning(checked["trials"], _distinct(checked["seeds"], f"{where}[tuning] seeds"), source)
        if both := sorted(set(tuning.seeds) & set(seeds)):
            raise ConfigError(
                f"{where}[tuning] seeds: expected none of [comparison] seeds, got {both[0]}: what was tuned on a seed "
                "must not be judged on it. Take others."
            )
    claims = tuple(
        _claim(table, number, where, told["metric"], contest, scenarios, budgets)
        for number, table in enumerate(raw.get("claim", []), 1)
        if not others.intersection(table.get("arms", []) if isinstance(table, dict) else [])
    )
    names = [claim.name for claim in claims]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}[[claim]] name: expected different ones, got {max(names, key=names.count)!r} twice.")
    found = Comparison(
        told["name"], told["says"], told["metric"], seeds, reference, tuple(told["targets"]), base, arms, scenarios,
        budgets, tuning, claims, raw, where, base_dir,
    )  # fmt: skip
    _resolve(found)
    return found


def _only(names: list[str], arms: dict[str, Arm], place: str) -> tuple[dict[str, Arm], set[str]]:
    """Return the arms that are computed, in their order, and the names of the others."""
    for name in names:
        _one_of(name, arms, place, "arm")
    kept = {name: arm for name, arm in arms.items() if not names or name in names}
    for arm in kept.values():
        if arm.twin and arm.twin in arms and arm.twin not in kept:
            raise ConfigError(f"{place}: expected {arm.name}'s twin too, got it without {arm.twin}. Add {arm.twin}.")
    return kept, set(arms) - set(kept)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else [])
        raise ConfigError(f"{path}: no such file. Expected a comparison in TOML.{near}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error}). Expected a comparison in TOML.") from None


def _override(raw: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    *tables, key = [part.strip() for part in path.split(".")]
    if not equals or not tables or not all((*tables, key)) or "\n" in value:
        raise ConfigError(f"--set: expected table.key=value, got {override!r}. Example: --set comparison.seeds=[0,1]")
    target: Any = raw
    for table in tables:
        target = target.setdefault(table, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: {table} is not a table in this file.")
    config.put(target, ".".join(tables), key, value)


def _base(table: dict[str, Any], where: str, base_dir: Path) -> dict[str, Any]:
    """Return the base experiment's tables: those of a file, with the inline ones over them."""
    own = {key: value for key, value in table.items() if key != "config"}
    base: dict[str, Any] = {}
    if "config" in table:
        if not isinstance(table["config"], str):
            raise ConfigError(f"{where}[base] config: expected the path of an experiment, got {table['config']!r}.")
        config.load(base_dir / table["config"])  # its own mistakes in its own words
        base = _read(base_dir / table["config"])
        base.pop("engine", None)
        for key in ("name", "seed"):
            base.get("experiment", {}).pop(key, None)
    return merged(base, _tables(own, f"{where}[base]"))


def _tables(table: Any, place: str) -> dict[str, Any]:
    """Return overrides of an experiment, their tables known and none of what the comparison itself decides."""
    if not isinstance(table, dict):
        raise ConfigError(f"{place}: expected a table, got {table!r}.")
    _known(table, OVERRIDES, f"{place} unknown table", str)
    for key, value in table.items():
        if not isinstance(value, list if key == "transform" else dict):
            raise ConfigError(f"{place} {key}: expected a table, got {value!r}.")
    for key, where in (("seed", "[comparison] seeds"), ("name", "the names of arms")):
        if key in table.get("experiment", {}):
            raise ConfigError(f"{place} experiment.{key}: expected none, {where} say it. Remove it.")
    return table


def _arm(name: str, table: Any, where: str, tuned: bool) -> Arm:
    place = f"{where}[arms.{name}]"
    if not isinstance(table, dict):
        raise ConfigError(f"{place}: expected a table, got {table!r}.")
    _known(table, (*ARM, *OVERRIDES), f"{place} unknown key", str)
    told = plugins.check_fields(ARM, {key: value for key, value in table.items() if key in ARM}, place)
    ranges = {}
    for path, ends in told["tune"].items():
        if not re.fullmatch(r"\w+\.\w+", path):
            raise ConfigError(f'{place} tune: expected "table.option" = [low, high], got {path!r}.')
        if len(ends) != 2 or not 0 < ends[0] < ends[1]:
            raise ConfigError(f"{place} tune {path}: expected [low, high] with 0 < low < high, got {ends}.")
        ranges[path] = Range(*table["tune"][path])
    if ranges and not tuned:
        raise ConfigError(f"{place} tune: expected [tuning] with trials and seeds, got none. Add it, or remove tune.")
    if told["metric"] and (not told["beside"] or ranges or not told["metric"].startswith("personal/")):
        raise ConfigError(
            f'{place} metric: expected "personal/…" of an arm with beside = "floor" and nothing to tune: clients\' own '
            f"held-out parts are all it is read from, got {told['metric']!r}."
        )
    return Arm(
        name, _tables({k: v for k, v in table.items() if k not in ARM}, place), told["twin"], ranges, told["paired"],
        told["beside"], told["metric"],
    )  # fmt: skip


def _budgets(table: dict[str, Any], place: str) -> tuple[Budget, ...]:
    listed = {key: value if isinstance(value, list) else [value] for key, value in table.items()}
    checked = plugins.check_fields(BUDGET, listed, place)
    return tuple(Budget(axis, float(most)) for axis, values in checked.items() for most in sorted(set(values)))


def _claim(
    table: Any,
    number: int,
    where: str,
    metric: str,
    arms: Mapping[str, Arm],
    scenarios: Mapping[str, Any],
    budgets: tuple[Budget, ...],
) -> Claim:
    place = f"{where}[[claim]] {number}"
    if not isinstance(table, dict):
        raise ConfigError(f"{place}: expected a table, got {table!r}.")
    told = plugins.check_fields(CLAIM, table, place)
    place = f"{place} ({told['name']})"
    for arm in told["arms"]:
        _one_of(arm, arms, f"{place} arms", "arm")
    for one in (*told["scenarios"], *told["between"]):
        _one_of(one, scenarios, f"{place} scenarios", "scenario")
    if len(told["between"]) not in (0, 2) or len(told["arms"]) != (1 if told["between"] else 2):
        raise ConfigError(
            f"{place} arms: expected two arms, or one with between = [two scenarios], "
            f"got {told['arms']} and {told['between']}."
        )
    wanted = _budgets(told["budget"], f"{place} budget") or budgets
    for budget in wanted:
        if budget not in budgets:
            raise ConfigError(f"{place} budget: expected one of [budget], got {budget.axis} = {budget.most:g}. Add it.")
    measured, cost = told["metric"] or metric, told["metric"] in AXES
    if not cost and (told["ratio"] != 1 or told["target"] is not None):
        raise ConfigError(
            f'{place}: ratio and target belong to a cost, metric = {" or ".join(AXES)}, got "{measured}". Take margin.'
        )
    if cost and told["margin"]:
        raise ConfigError(f'{place} margin: expected ratio for the cost "{measured}", got margin.')
    if told["direction"] == "equal" and not (told["margin"] > 0 or told["ratio"] > 1):
        raise ConfigError(f'{place} margin: expected how far apart is still "equal", got none. Name it beforehand.')
    return Claim(
        told["name"], told["says"], tuple(told["arms"]), measured, told["direction"], told["margin"], told["ratio"],
        told["target"], wanted, tuple(told["scenarios"] or scenarios), tuple(told["between"]),
    )  # fmt: skip


def _resolve(comparison: Comparison) -> None:
    """Resolve every arm in every scenario, in the first of them with both ends of what is tuned."""
    first = next(iter(comparison.scenarios))
    for scenario in comparison.scenarios:
        for arm in comparison.arms.values():
            resolved = comparison.experiment(arm.name, scenario, comparison.seeds[0])
            for path, ends in arm.ranges.items():
                table, key = path.split(".")
                place = f"{comparison.where}[arms.{arm.name}] tune {path}"
                if table not in resolved.tables or table == "transform":
                    raise ConfigError(f"{place}: the arm has no table [{table}].{nearest(table, resolved.tables)}")
                if key not in resolved[table]:
                    raise ConfigError(
                        f"{place}: [{table}] has no option {key}. There are: {', '.join(resolved[table])}."
                        f"{nearest(key, resolved[table])}"
                    )
                for end in ends if scenario == first else ():
                    comparison.experiment(arm.name, scenario, comparison.seeds[0], {path: end})


def _known(table: Mapping[str, Any], names: Sequence[str], said: str, written: Any) -> None:
    for key in table:
        if key not in names:
            raise ConfigError(f"{said} {written(key)}. There are: {', '.join(names)}.{nearest(key, names)}")


def _one_of(name: str, names: Mapping[str, Any], place: str, kind: str) -> None:
    if name not in names:
        raise ConfigError(f'{place}: no {kind} "{name}". There are: {", ".join(names)}.{nearest(name, names)}')


def _distinct(seeds: list[int], place: str) -> tuple[int, ...]:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{place}: expected one seed or more, all different, got {seeds}.")
    return tuple(seeds)


def _folder_name(name: str, place: str) -> None:
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise ConfigError(f"{place}: expected letters, digits, dots and dashes (it names a folder), got {name!r}.")
