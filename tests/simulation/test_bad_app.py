"""What is wrong with an app or the command ends it before any work, with status 2 and the way out."""

import shutil
import sys
from pathlib import Path

import pytest

from fedjourney import cli
from fedjourney.simulation.pool import AppError

CASES = {
    "missing folder": (["../numpy_fedavgg"], None, ["expected the folder of a Flower app", 'mean "numpy_fedavg"?']),
    "no pyproject": (["linear"], None, ["expected a pyproject.toml that names a Flower app"]),
    "folder above": ([".."], None, ["There is one in: ", "numpy_fedavg"]),
    "not TOML": (["."], ("[project]", "[project"), ["pyproject.toml: expected TOML"]),
    "no section": (["."], ("[tool.flwr.app]", "[tool.flower.app]"), ['"publisher" missing in [tool.flwr.app]']),
    "component's name": (["."], ("clientapp =", "client_app ="), ['"clientapp" missing', 'There is "client_app".']),
    "component's module": (["."], ("linear.client_app:", "linear.cleint_app:"), ['mean "linear.client_app"?']),
    "component's package": (["."], ("linear.client_app:", "liner.client_app:"), ['mean "linear.client_app"?']),
    "component's attribute": (["."], ("client_app:app", "client_app:apq"), ["Unable to find", 'mean "app"?']),
    "component without attribute": (["."], ("client_app:app", "client_app"), ["Missing attribute"]),
    "unknown key": ([".", "-c", "learning-rat=1"], None, ['no key "learning-rat"', 'Did you mean "learning-rate"?']),
    "no pair": ([".", "-c", "rounds:3"], None, ["expected 'key=value", "'rounds:3'"]),
    "text without quotes": ([".", "-c", "name=b"], None, ["invalid format"]),
    "no such file": ([".", "-c", "absent.toml"], None, ["absent.toml"]),
    "nodes": ([".", "--nodes", "0"], None, ["nodes: expected 1 or more, got 0"]),
    "workers": ([".", "--workers", "-1"], None, ["workers: expected 0", "got -1"]),
    "supernodes": (["."], ("num-supernodes = 6", "num-supernodes = 0"), ["options.num-supernodes > 0"]),
}


@pytest.fixture
def copy(apps: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "numpy_fedavg"
    shutil.copytree(apps / "numpy_fedavg", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_it_ends_before_any_work(
    case: str, copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (app, *rest), change, expected = CASES[case]
    monkeypatch.chdir(copy)
    if change:
        file = copy / "pyproject.toml"
        assert change[0] in file.read_text()
        file.write_text(file.read_text().replace(*change))
    monkeypatch.setattr("fedjourney.simulation.run.SimulatedGrid", None)
    assert cli.main(["simulate", app if app == "." else str((copy / app).resolve()), *rest]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fedjourney: ")
    assert "Traceback" not in err
    for part in expected:
        assert part in err, err


@pytest.mark.parametrize("workers", [0, 1])
def test_an_app_that_cannot_be_imported_fails_with_its_own_traceback(
    copy: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    (copy / "linear" / "client_app.py").write_text("app = None\nimport no_such_module\n")
    assert cli.main(["simulate", str(copy), "--workers", str(workers)]) == 1
    err = capsys.readouterr().err
    assert "the ClientApp cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'" in err
    assert "import no_such_module" in err
    assert "importlib" not in err


def test_a_component_of_another_kind_is_refused(copy: Path) -> None:
    from fedjourney import simulate

    (copy / "linear" / "client_app.py").write_text("app = 3\n")
    with pytest.raises(AppError, match="expected a ClientApp, got int"):
        simulate(copy, workers=0)
    assert str(copy) not in sys.path
