"""What every plug-in must hold, by existing."""

import ast
import typing
from pathlib import Path

import pytest

import fedjourney
from fedjourney import plugins
from fedjourney.errors import ConfigError

PACKAGE = Path(fedjourney.__file__).parent
EVERY = [(kind, name) for kind in plugins.KINDS for name in plugins.names(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_it_can_be_named_and_says_in_one_line_what_it_is(kind: str, name: str) -> None:
    assert callable(plugins.load(kind, name))
    line = plugins.described(kind)[name]
    assert line
    assert line.rstrip(".") != name


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_it_imports_no_other_plugin_and_no_flower(kind: str, name: str) -> None:
    path = PACKAGE / plugins.KINDS[kind] / f"{name}.py"
    for module in imported(path):
        others = {f"fedjourney.{plugins.KINDS[kind]}.{other}" for other in plugins.names(kind)} - {name}
        assert module not in others
        if kind != "engine":
            assert module.split(".")[0] != "flwr"
            assert module not in {f"fedjourney.{n}" for n in ("experiment", "facts", "flower", "results", "report")}


def test_private_names_of_flower_stand_in_one_file() -> None:
    public = {"flwr.app", "flwr.serverapp", "flwr.serverapp.strategy", "flwr.clientapp", "flwr"}
    for path in PACKAGE.rglob("*.py"):
        if path.name != "flower_private.py":
            assert {m for m in imported(path) if m.split(".")[0] == "flwr"} <= public, path


def test_no_step_hides_its_factor_from_the_compiler() -> None:
    # torch 2.13's Inductor drops `alpha=` in fused adds
    for folder in ("updates", "strategies", "tasks", "models"):
        for path in (PACKAGE / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    assert not {k.arg for k in node.keywords} & {"alpha", "beta", "value"}, f"{path}:{node.lineno}"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def has_integers(annotation: object) -> bool:
    return annotation is int or any(has_integers(part) for part in typing.get_args(annotation))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in EVERY if kind != "engine"])
def test_its_whole_numbers_have_an_upper_bound(kind: str, name: str) -> None:
    # without one, 2**63 ends in the wording of whatever cannot take it, or never
    for key, option in plugins._options(plugins.load(kind, name)).items():
        if has_integers(option.annotation):
            value = [2**63] if typing.get_origin(option.annotation) is list else 2**63
            with pytest.raises(ConfigError, match="less than or equal to"):
                plugins.check_fields({key: (option.annotation, option.default)}, {key: value}, f"[{kind}]")
