"""A Flower app in a folder: found, checked before any work, loaded as Flower 1.41 does."""

import ast
import importlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedjourney import flower_private
from fedjourney.errors import ConfigError, nearest

FEW = 10  # nodes, where neither the user nor the app says how many


@dataclass(frozen=True)
class App:
    """What an app's pyproject.toml says; `server` and `client` are "module:attribute"."""

    folder: Path
    name: str
    version: str
    publisher: str
    server: str
    client: str
    config: dict[str, Any] = field(default_factory=dict)  # the run config's defaults, flat
    nodes: int = FEW


def find(folder: str | os.PathLike[str]) -> App:
    """Read and check the app in a folder; nothing of it is run but its packages' `__init__` (Flower does that too).

    Raises:
        ConfigError: no such folder, no app in it, or one that Flower would refuse.
    """
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        beside = [path.name for path in root.parent.iterdir() if path.is_dir()] if root.parent.is_dir() else []
        raise ConfigError(f"{folder}: expected the folder of a Flower app, found none.{nearest(root.name, beside)}")
    file = root / "pyproject.toml"
    if not file.is_file():
        below = [path.parent.name for path in sorted(root.glob("*/pyproject.toml"))]
        hint = f" There is one in: {', '.join(below)}." if below else ""
        raise ConfigError(f"{folder}: expected a pyproject.toml that names a Flower app, found none.{hint}")
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from None
    app: dict[str, Any] = _table(tables, "tool", "flwr", "app")
    if problems := flower_private.check_pyproject(tables):
        components = _table(app, "components")
        hints = [f' There is "{name}".' for name in components if name not in ("serverapp", "clientapp")]
        raise ConfigError(f"{file}: {'; '.join(problems)}.{''.join(hints) if 'missing' in problems[0] else ''}")
    components = app["components"]
    if "serverapp" not in components or "clientapp" not in components:
        raise ConfigError(f"{file}: expected serverapp and clientapp in [tool.flwr.app.components], got an agent app.")
    for side in ("serverapp", "clientapp"):
        _check(file, side, components[side])
    return App(
        folder=root,
        name=tables["project"]["name"],
        version=tables["project"]["version"],
        publisher=app["publisher"],
        server=components["serverapp"],
        client=components["clientapp"],
        config=flower_private.flat(app.get("config", {})),
        nodes=_nodes(file, tables),
    )


def run_config(app: App, overrides: Sequence[str] | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the app's run config with the overrides over it: `key=value …`, a TOML file's path, or a mapping.

    Raises:
        ConfigError: they cannot be read, or name a key that the app does not have.
    """
    try:
        if isinstance(overrides, Mapping):
            given = flower_private.flat(dict(overrides))
        else:
            for line in overrides or []:
                _check_pairs(line)
            lines = list(overrides or [])
            given = flower_private.parse_overrides(lines)
            if len(lines) > 1:  # Flower drops what one text says of a table that a later one names too
                for line in lines:
                    given |= flower_private.parse_overrides([line])
    except ConfigError:
        raise
    except Exception as error:  # click's, tomli's, OSError, ValueError: Flower raises them as they come
        raise ConfigError(f"run config: {error}") from None
    for key in given:
        if key not in app.config:
            known = ", ".join(app.config) or "none"
            raise ConfigError(
                f'run config: {app.name} has no key "{key}". There are: {known}.{nearest(key, app.config)} '
                "Flower takes only keys that stand in [tool.flwr.app.config]."
            )
    return flower_private.fused(app.config, given)


@contextmanager
def at_home(app: App) -> Iterator[None]:
    """Keep the app's imports its own: afterwards `sys.path` and `sys.modules` are as they were."""
    tops = {reference.partition(":")[0].partition(".")[0] for reference in (app.server, app.client)}
    hidden = {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in tops and not _below(module, app.folder)
    }
    path, before = list(sys.path), set(sys.modules)
    for name in hidden:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if _below(sys.modules[name], app.folder):
                del sys.modules[name]
        sys.modules.update(hidden)


def load(app: App, side: str) -> Any:
    """Import one side, "server" or "client"; whatever its code raises comes through.

    Raises:
        ImportError: what is there is no ServerApp or ClientApp.
    """
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    reference, kind = (app.server, ServerApp) if side == "server" else (app.client, ClientApp)
    loaded = flower_private.load_component(reference, app.folder)
    if not isinstance(loaded, kind):
        raise ImportError(f"{reference}: expected a {kind.__name__}, got {type(loaded).__name__}")
    return loaded


def _check(file: Path, side: str, reference: Any) -> None:
    where = f"{file}: [tool.flwr.app.components] {side} = {reference!r}"
    if not isinstance(reference, str):
        raise ConfigError(f'{where}: expected "module:attribute".')
    module, _, attribute = reference.partition(":")
    source = file.parent.joinpath(*module.split("."))
    known = App(file.parent, "", "", "", reference, reference)
    try:
        with at_home(known):
            reason = flower_private.check_component(reference, file.parent)
    except ModuleNotFoundError:
        reason = f"Unable to load module {module}"
    except Exception:  # a package's __init__ raised: loading shows it, with its traceback
        return
    if not reason:
        return
    files = [source.with_suffix(".py"), source / "__init__.py"]
    if found := [path for path in files if path.is_file()]:
        hint = nearest(attribute, _assigned(found[0]))
    else:
        modules = [
            ".".join(path.relative_to(file.parent).with_suffix("").parts) for path in sorted(file.parent.rglob("*.py"))
        ]
        hint = nearest(module, modules)
    raise ConfigError(f"{where}: {reason}.{hint}")


def _assigned(file: Path) -> list[str]:
    """Return names bound by plain assignments, the only ones that Flower's own check sees."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    except SyntaxError:
        return []
    return [t.id for n in nodes if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]


def _check_pairs(line: str) -> None:
    """Refuse what Flower would silently leave out."""
    rest = re.sub(r"(\S+?)=(\'[^\']*\'|\"[^\"]*\"|\S+)", "", line).strip()
    if rest and not line.endswith(".toml"):
        raise ConfigError(f"run config: expected 'key=value key2=\"text\"' or a TOML file, got {rest!r} in {line!r}.")


def _nodes(file: Path, tables: dict[str, Any]) -> int:
    """Return num-supernodes of the default federation, or of the first that has it (layout before Flower 1.26)."""
    federations = _table(tables, "tool", "flwr", "federations")
    first = [federations.get("default"), *federations]
    for name in first:
        options = _table(federations, name, "options") if isinstance(name, str) else {}
        if "num-supernodes" in options:
            count = options["num-supernodes"]
            if not isinstance(count, int) or count < 1:
                raise ConfigError(f"{file}: [tool.flwr.federations.{name}] expected options.num-supernodes > 0.")
            return count
    return FEW


def _table(tables: Any, *names: str) -> dict[str, Any]:
    for name in names:
        tables = tables.get(name) if isinstance(tables, dict) else None
    return tables if isinstance(tables, dict) else {}


def _below(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    paths = [file] if file else list(getattr(module, "__path__", []))
    return any(Path(path).absolute().is_relative_to(folder) for path in paths)
