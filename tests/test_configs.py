"""Every config resolves, runs again from its resolved form, and says what it shows."""

import functools
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import fedjourney
from fedjourney import comparison, config, plugins
from fedjourney.metrics import headline, lower_is_better

ROOT = Path(__file__).parents[1]
EVERY = sorted((ROOT / "configs").glob("*.toml"))
COMPARISONS = [path for path in EVERY if comparison.is_comparison(path)]
CONFIGS = [path for path in EVERY if path not in COMPARISONS]
EXPECT = re.compile(r"^# expect: (final )?(test accuracy|personal/accuracy) ([\d.]+) ± ([\d.]+) over seeds 0-2$", re.M)
"""The mean over the last five evaluations (`final`: of the last), then mean and deviation over three seeds."""
EXPECTED = {path: found for path in CONFIGS if (found := EXPECT.search(path.read_text()))}


@functools.cache  # some are asked about twice
def rounds_of(name: str, seed: int) -> list[dict[str, Any]]:
    """Return the rounds of a config's run."""
    experiment = config.load(ROOT / "configs" / f"{name}.toml", [f"experiment.seed={seed}"])
    with tempfile.TemporaryDirectory() as folder:
        return fedjourney.run(experiment, Path(folder) / "run").rounds


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_resolves_to_itself_and_says_what_it_shows(path: Path) -> None:
    experiment = fedjourney.load(path)
    assert config.parse(experiment.text()) == experiment
    assert path.read_text().startswith("# ")
    assert experiment["experiment"]["name"] == path.stem
    assert path.read_text().count("# expect:") == (path in EXPECTED)


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


@pytest.mark.numbers
@pytest.mark.parametrize(
    ("name", "target", "by", "seed"),
    [
        ("mnist-2nn-fedavg", 0.97, 87, 0),  # `by` is McMahan et al. 2017, table 1, where it can be
        ("mnist-2nn-fedavg", 0.97, 87, 1),
        ("mnist-2nn-fedavg", 0.97, 87, 2),
        ("mnist-2nn-fedavg-two-shards", 0.97, 664, 0),
        ("mnist-cnn-fedavg", 0.99, 30, 0),
        ("mnist-cnn-fedavg-two-shards", 0.99, 206, 0),
        ("python-topics-lstm", 0.42, 30, 0),
        ("python-topics-lstm", 0.50, 100, 1),
        ("digits-rows-gru", 0.93, 40, 0),
        ("digits-rows-gru", 0.93, 40, 1),
        ("mnist-rows-gru", 0.93, 20, 0),
        ("shakespeare-lstm-mcmahan", 0.30, 60, 0),
        ("shakespeare-lstm-mcmahan", 0.27, 60, 1),
        ("shakespeare-lstm-mcmahan", 0.27, 60, 2),
        ("digits-open-es", 0.92, 100, 0),
        ("shakespeare-lstm", 0.3, 30, 0),
        ("digits-resnet8", 0.95, 20, 0),
        ("digits-resnet8", 0.95, 20, 1),
        ("digits-angle", 10.0, 30, 0),  # degrees
        ("digits-angle", 10.0, 30, 1),
        ("mnist-angle", 18.0, 60, 0),  # degrees
        ("omniglot-verification", 0.78, 20, 0),
        ("omniglot-verification", 0.78, 20, 1),
        ("digits-snes", 0.90, 100, 0),
        ("digits-snes", 0.90, 100, 1),
        ("digits-evofed", 0.95, 60, 0),
        ("digits-evofed", 0.95, 60, 1),
        ("digits-genetic", 0.84, 100, 0),
        ("digits-genetic", 0.84, 100, 1),
        ("digits-cnn-genetic", 0.58, 80, 0),
        ("mnist-cnn-genetic", 0.67, 150, 0),
        ("mnist-cnn-genetic", 0.67, 150, 1),
        ("lunarlander-ppo", 200.0, 60, 0),
        ("lunarlander-ppo", 200.0, 60, 1),
        ("lunarlander-ppo", 200.0, 60, 2),
        ("lunarlander-random-search", -45.0, 80, 0),
        ("lunarlander-random-search", -95.0, 80, 1),
        ("lunarlander-random-search", -102.0, 80, 2),
        ("cartpole-ppo", 490.0, 25, 0),
        ("cartpole-ppo", 490.0, 25, 1),
        ("cartpole-ppo", 490.0, 25, 2),
        ("cartpole-open-es", 490.0, 30, 0),
        ("cartpole-random-search", 400.0, 55, 0),
        ("acrobot-ppo", -95.0, 20, 0),
        ("cartpole-reinforce", 470.0, 30, 0),
        ("cartpole-reinforce", 300.0, 30, 2),
        ("functions-gru", 0.40, 60, 0),
        ("functions-gru", 0.40, 60, 1),
        ("functions-gru", 0.40, 60, 2),
        ("bandits-open-es", 0.90, 60, 0),
        ("bandits-open-es", 0.90, 60, 1),
        ("bandits-random-search", 0.87, 60, 0),
        ("bandits-random-search", 0.87, 60, 2),
        ("bandits-ppo", 0.98, 40, 0),
        ("bandits-ppo", 0.98, 40, 1),
        ("bandits-ppo", 0.98, 40, 2),
        ("cartpole-a2c", 470.0, 25, 0),
        ("cartpole-a2c", 490.0, 30, 1),
        ("sinusoid-maml", 0.40, 300, 0),  # mean squared error
        ("sinusoid-maml", 0.40, 300, 1),
        ("sinusoid-meta-sgd", 0.40, 300, 0),
        ("sinusoid-reptile", 1.05, 120, 0),
        ("sinusoid-reptile", 0.8, 120, 2),
        ("sinusoid-per-fedavg", 1.0, 120, 0),
        ("sinusoid-per-fedavg", 0.8, 120, 2),
        ("glyphs-prototypes", 0.68, 40, 0),
        ("glyphs-prototypes", 0.68, 40, 1),
        ("omniglot-maml", 0.5, 20, 0),
        ("omniglot-maml", 0.5, 20, 1),
        ("omniglot-prototypes", 0.59, 40, 0),
        ("omniglot-prototypes", 0.59, 40, 1),
        ("omniglot-prototypes", 0.59, 40, 2),
    ],
)
def test_a_config_reaches_what_it_says(name: str, target: float, by: int, seed: int) -> None:
    rounds = rounds_of(name, seed)
    metric = headline(rounds[-1]["test"]) or ""
    sign = -1 if lower_is_better(metric) else 1
    measured = [row for row in rounds if row["test"].get(metric) is not None]
    reached = next(row["round"] for row in measured if sign * row["test"][metric] >= sign * target)
    assert reached <= by


@pytest.mark.numbers
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("name", "below"), [("monthly-gru", "rmse_seasonal"), ("fertility-gru", "rmse_last_change")])
def test_a_forecast_is_better_than_what_learns_nothing(name: str, below: str, seed: int) -> None:
    found = rounds_of(name, seed)[-1]["test"]
    assert found["rmse"] < found[below]


@pytest.mark.numbers
@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: path.stem)
def test_a_config_keeps_to_what_it_expects(path: Path) -> None:
    final, metric, mean, deviation = EXPECTED[path].groups()
    numbers = []
    for seed in range(3):
        rounds = [row for row in rounds_of(path.stem, seed) if row["test"]]
        told = [
            row["test"]["accuracy"] if metric == "test accuracy" else row["evaluation"][metric]["mean"]
            for row in rounds[-1 if final else -5 :]
        ]
        numbers.append(statistics.mean(told))
    assert statistics.mean(numbers) == pytest.approx(float(mean), abs=max(float(deviation), 0.005))
