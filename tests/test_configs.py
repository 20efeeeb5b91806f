"""Every config resolves, runs again from its resolved form, and says what it shows."""

import subprocess
import sys
from pathlib import Path

import pytest

import fedjourney
from fedjourney import comparison, config, plugins

ROOT = Path(__file__).parents[1]
EVERY = sorted((ROOT / "configs").glob("*.toml"))
COMPARISONS = [path for path in EVERY if comparison.is_comparison(path)]
CONFIGS = [path for path in EVERY if path not in COMPARISONS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_resolves_to_itself_and_says_what_it_shows(path: Path) -> None:
    experiment = fedjourney.load(path)
    assert config.parse(experiment.text()) == experiment
    assert path.read_text().startswith("# ")
    assert experiment["experiment"]["name"] == path.stem


def test_every_strategy_has_a_config_with_the_number_to_expect() -> None:
    shown = {fedjourney.load(path)["strategy"]["name"] for path in CONFIGS}
    assert set(plugins.names("strategy")) <= shown


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_every_arm_of_a_comparison_resolves_and_it_says_what_it_shows(path: Path) -> None:
    found = comparison.load(path)
    assert path.read_text().startswith("# ")
    assert found.name == path.stem
    assert found.claims
    for scenario in (next(iter(found.scenarios)), list(found.scenarios)[-1]):
        for arm in found.arms:
            experiment = found.experiment(arm, scenario, found.seeds[0])
            assert config.parse(experiment.text()) == experiment


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("mnist-2nn-fedavg", 199_210), ("mnist-cnn-fedavg", 1_663_370), ("lenet", 44_426), ("evofed_cnn", 11_274)],
)
def test_models_have_the_published_size(name: str, parameters: int) -> None:
    from fedjourney.tasks import Signature

    path = ROOT / "configs" / f"{name}.toml"
    table = fedjourney.load(path)["model"] if path.exists() else {"name": name}
    model = plugins.build("model", table, Signature({"image": (1, 28, 28)}, {"label": ()}, 10))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_decomfls_network_has_the_size_of_the_released_code() -> None:
    from fedjourney.tasks import Signature

    table = plugins.resolve("model", {"name": "evofed_cnn", "channels": 16, "pooling": "max"})
    model = plugins.build("model", table, Signature({"image": (1, 28, 28)}, {"label": ()}, 10))
    assert sum(p.numel() for p in model.parameters()) == 28_938


def test_help_and_list_import_neither_torch_nor_flwr() -> None:
    for arguments in (["--help"], ["list"], ["--version"]):
        code = (
            "import sys\nfrom fedjourney.cli import main\n"
            f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
            "print(sorted({'torch', 'flwr', 'numpy', 'pydantic'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines()[-1] == "[]", done
