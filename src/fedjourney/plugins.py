"""Plug-ins: folder = kind, file name = name in TOML, keyword-only parameters = options.

There is no registry. A plug-in is the callable of a file that bears the file's name (`fedavg` or `FedAvg` in
`strategies/fedavg.py`); `"package.module:Name"` names somebody else's. What it takes by position is injected
by us; what it takes by keyword is an option, checked with pydantic in strict mode.
"""

import ast
import contextlib
import importlib
import inspect
import re
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedjourney.errors import ConfigError, FedjourneyError, nearest

KINDS = {
    "data": "data",
    "partition": "partitions",
    "model": "models",
    "task": "tasks",
    "update": "updates",
    "transform": "transforms",
    "strategy": "strategies",
    "engine": "engines",
}
"""Kind as in TOML -> folder of its plug-ins."""


def names(kind: str) -> list[str]:
    """Return the names of all plug-ins of a kind, without importing any."""
    return sorted(path.stem for path in _folder(kind).glob("*.py") if not path.stem.startswith("_"))


def _folder(kind: str) -> Path:
    return Path(__file__).parent / KINDS[kind]


def described(kind: str) -> dict[str, str]:
    """Return name -> first line of its docstring, read from the source (nothing is imported)."""
    folder = _folder(kind)
    lines = {}
    for name in names(kind):
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        doc = ""
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and _matches(node.name, name):
                doc = ast.get_docstring(node) or ""
        lines[name] = doc.partition("\n")[0]
    return lines


def load(kind: str, name: str, where: str = "") -> Callable[..., Any]:
    """Return the plug-in of that kind and name; `"module:Name"` is imported from elsewhere.

    Raises:
        ConfigError: there is no such plug-in, or its module cannot be imported.
    """
    place = f"{where}[{kind}] "
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except (Exception, SystemExit) as error:  # a module can do anything while it is imported
            raise ConfigError(
                f'{place}name: expected an importable "module:Name", got "{name}" ({type(error).__name__}: {error}). '
                "Install its package, or put its folder on PYTHONPATH."
            ) from None
        if not callable(found):
            raise ConfigError(f'{place}name: "{name}" is a {type(found).__name__}, not something to call.')
        if kind == "strategy" and isinstance(found, type) and _is_flowers(found):
            from fedjourney.foreign import adapted

            try:
                return adapted(found)
            except ConfigError as error:
                raise ConfigError(f"{where}{error}") from None
        return typing.cast(Callable[..., Any], found)
    if not name.isidentifier() or name.startswith("_") or not (_folder(kind) / f"{name}.py").is_file():
        known = names(kind)
        raise ConfigError(f'{place}name: no {kind} "{name}". There are: {", ".join(known)}.{nearest(name, known)}')
    module = importlib.import_module(f"fedjourney.{KINDS[kind]}.{name}")
    for attribute, value in vars(module).items():
        if callable(value) and _matches(attribute, name) and value.__module__ == module.__name__:
            return typing.cast(Callable[..., Any], value)
    raise ConfigError(f"{module.__file__}: expected a function or class named {name}, found none.")


def _is_flowers(found: type) -> bool:
    """Return whether a class derives from Flower's Strategy; without importing it, for then it has been."""
    flowers: Any = sys.modules.get("flwr.serverapp.strategy")
    return flowers is not None and issubclass(found, flowers.Strategy)


def resolve(kind: str, table: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the table with every default filled in, its `name` first.

    Args:
        kind: a key of `KINDS`.
        table: as read from TOML, `name` and options.
        where: prefix of messages, such as `configs/a.toml: `.

    Raises:
        ConfigError: no such plug-in; an unknown option, or one of the wrong type or out of range.
    """
    name = table.get("name")
    if not isinstance(name, str):
        raise ConfigError(
            f"{where}[{kind}] name: expected the name of a plug-in as text, got {name!r}. "
            f"There are: {', '.join(names(kind))}."
        )
    options = {key: value for key, value in table.items() if key != "name"}
    try:
        plugin = load(kind, name, where)
        parameters = _options(plugin)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigError(
            f'{where}[{kind}] name: expected a plug-in with annotated keyword options, got "{name}" ({error}).'
        ) from None
    for key, why in getattr(
        plugin, "refused", {}
    ).items():  # of somebody else's, whose options are not all its own here
        if key in options:
            raise ConfigError(f"{where}[{kind}] {key}: {why}")
    checked = check_fields(
        {k: (p.annotation, p.default) for k, p in parameters.items()}, options, f"{where}[{kind}]", plugin
    )
    return {"name": name, **checked}


def fitting(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that a plug-in has under that name and could take.

    Raises:
        ConfigError: there is no such plug-in.
    """
    known, kept = _options(load(kind, name)), {}
    for key, value in options.items():
        if key in known:
            with contextlib.suppress(ConfigError):
                check_fields({key: (known[key].annotation, known[key].default)}, {key: value}, "")
                kept[key] = value
    return kept


def build(kind: str, table: Mapping[str, Any], *injected: Any) -> Any:
    """Call the plug-in of a resolved table with what is injected and its options.

    Raises:
        ConfigError: somebody else's plug-in cannot be built with what is injected.
    """
    options = {key: value for key, value in table.items() if key != "name"}
    plugin = load(kind, table["name"])
    try:
        return plugin(*injected, **options)
    except FedjourneyError:
        raise
    except Exception as error:  # what the user wrote can make a plug-in raise anything, and a foreign one more
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).partition("\n")[0]
        hint = f" What plug-ins take: src/fedjourney/{KINDS[kind]}/__init__.py." if ":" in table["name"] else ""
        raise ConfigError(
            f'[{kind}] "{table["name"]}" cannot be made of these options '
            f"({type(error).__name__}: {said}; {Path(frame.filename).name}:{frame.lineno}).{hint}"
        ) from error


def check_fields(
    fields: Mapping[str, tuple[Any, Any]], values: Mapping[str, Any], where: str, plugin: object = None
) -> dict[str, Any]:
    """Check values against (annotation, default) pairs; return them with defaults, in the fields' order.

    What is missing is explained from the docstring of `plugin`, where there is one.

    Raises:
        ConfigError: names the first field that does not fit, what was expected, and what came.
    """
    import pydantic

    for key in values:
        if key not in fields:
            options = ", ".join(fields) or "none"
            raise ConfigError(f'{where} unknown option "{key}". There are: {options}.{nearest(key, fields)}')
    model = _model(fields)
    try:
        checked = model(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        meant = _meaning(plugin, place) if first["type"] == "missing" else ""
        raise ConfigError(f"{where} {place}: {_expectation(first)}{meant}") from None
    return {key: getattr(checked, key) for key in fields}


def _meaning(plugin: object, option: str) -> str:
    """Return what the docstring of a plug-in says of an option, as a further sentence; nothing where it does not."""
    lines = (inspect.getdoc(plugin) or "").partition("Args:")[2]
    found = re.search(rf"^ +{re.escape(option)}: (.*(?:\n {{8,}}.*)*)", lines, re.MULTILINE)
    return f" It is: {' '.join(found[1].split())}" if found else ""


_MODELS: dict[tuple[Any, ...], tuple[Any, Any]] = {}


def _model(fields: Mapping[str, tuple[Any, Any]]) -> Any:
    """Return the model that checks such fields: a comparison resolves the same plug-in hundreds of times."""
    import pydantic

    key = tuple((name, id(annotation), id(default)) for name, (annotation, default) in fields.items())
    if key in _MODELS:
        return _MODELS[key][0]
    definitions: dict[str, Any] = {
        name: (annotation, ... if default is inspect.Parameter.empty else default)
        for name, (annotation, default) in fields.items()
    }
    model = pydantic.create_model(
        "Options",
        __config__=pydantic.ConfigDict(
            strict=True,
            extra="forbid",
            allow_inf_nan=False,
            protected_namespaces=(),
            arbitrary_types_allowed=True,
        ),
        **definitions,
    )
    _MODELS[key] = (model, dict(fields))  # what is held keeps its id
    return model


def _expectation(error: Any) -> str:
    if error["type"] == "missing":
        return "expected a value, got none. Add it."
    if error["type"] == "too_short":
        return f"expected {error['ctx']['min_length']} or more items, got {error['input']!r}."
    said = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"expected {said}, got {error['input']!r}."


def _options(plugin: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a plug-in, annotations evaluated."""
    signature = inspect.signature(plugin, eval_str=True)
    found = {k: p for k, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return {k: p.replace(annotation=Any) if p.annotation is p.empty else p for k, p in found.items()}


def _matches(attribute: str, name: str) -> bool:
    return attribute.lower() == name.replace("_", "") or attribute == name
