"""Return over environment steps, and the numbers of docs/05-reinforcement.md.

    for seed in 0 1 2; do for name in ppo a2c reinforce open-es random-search; do
      .venv/bin/fedjourney run configs/cartpole-$name.toml --seed $seed --out runs/cartpole/$name-$seed
    done; done
    .venv/bin/python docs/pictures/reinforcement.py docs/pictures/reinforcement.png runs/cartpole/*

A panel has the runs of one config in colour, a line a seed, and all others in grey. The table has, for each config,
the mean over seeds of the test return (100 greedy episodes in each world), and over worlds x seeds the interquartile
mean with a 95 % interval by stratified bootstrap (Agarwal et al. 2021, Deep reinforcement learning at the edge of the
statistical precipice): worlds are kept, the seed is drawn anew for each of them.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
from pyarrow import parquet
from safetensors.torch import load_file

import fedjourney
from fedjourney.plan import plan

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def curve(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (environment steps so far over all clients, test return) at each evaluation of a run."""
    table = parquet.read_table(folder / "clients.parquet", columns=["round", "environment-steps"])
    rounds, steps = (np.array([value or 0 for value in column.to_pylist()]) for column in table.columns)
    rows = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["test"]]
    spent = [steps[rounds <= row["round"]].sum() for row in rows]
    return np.array(spent, dtype=float), np.array([row["test"]["return"] for row in rows])


def worlds(folder: Path) -> np.ndarray:
    """Return the delivered model's mean greedy return in each world [worlds], on the test episodes."""
    found = plan(fedjourney.load(folder / "experiment.toml"))
    model, examples, count = load_file(folder / "model.safetensors"), found.dataset.test, found.experiment["data"]
    model = {name: model[name] for name in found.task.init(0)}
    each = [examples.cut(slice(w * count["test"], (w + 1) * count["test"])) for w in range(count["worlds"])]
    return np.array([found.task.summary(found.task.evaluate(model, some))["return"] for some in each])


def interquartile_mean(scores: np.ndarray) -> float:
    """Return the mean of the middle half."""
    ordered = np.sort(scores, axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def interval(scores: np.ndarray) -> tuple[float, float]:
    """Return a 95 % interval of the interquartile mean of scores [seeds, worlds]."""
    chance = np.random.default_rng(0)
    seeds, count = scores.shape
    drawn = [scores[chance.integers(seeds, size=scores.shape), np.arange(count)] for _ in range(2000)]
    low, high = np.quantile([interquartile_mean(one) for one in drawn], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Draw, and print the table."""
    said = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    said.add_argument("picture")
    said.add_argument("runs", nargs="+", type=Path)
    said.add_argument("--budget", type=float, default=np.inf, help="environment steps at which returns are compared")
    said = said.parse_args()
    groups: dict[str, list[Path]] = {}
    for folder in said.runs:
        name = fedjourney.load(folder / "experiment.toml")["experiment"]["name"]
        groups.setdefault(name, []).append(folder)
    size = (2 + 1.8 * len(groups), 3.2)
    figure, row = plt.subplots(
        1, len(groups), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    panels = dict(zip(sorted(groups), row[0], strict=True))
    print(f"{'config':28} {'return by seed':28} {'mean':>7} {'IQM':>7} {'95 %':>16} {'worst world':>11} {'steps':>10}")
    for name, folders in sorted(groups.items()):
        scores, steps, within = np.stack([worlds(folder) for folder in folders]), [], []
        for folder in folders:
            spent, told = curve(folder)
            steps.append(spent[-1])
            within.append(told[spent <= said.budget][-1])
            for other, panel in panels.items():
                own = {"color": "#2a78d6", "zorder": 3} if other == name else {"color": "#cccccc", "linewidth": 0.8}
                panel.plot(spent / 1e3, told, **own)
        low, high = interval(scores)
        by_seed = ", ".join(f"{mean:.1f}" for mean in scores.mean(1))
        print(
            f"{name:28} {by_seed:28} {scores.mean():7.1f} {interquartile_mean(scores):7.1f} "
            f"{low:7.1f} … {high:6.1f} {scores.mean(0).min():11.1f} {np.mean(steps):10.0f}"
            f"  within the budget {', '.join(f'{mean:.1f}' for mean in within)}"
        )
    for name, panel in panels.items():
        panel.set_title(name, fontsize=10)
        panel.grid(alpha=0.3)
    row[0, 0].set_ylabel("greedy return, mean over all worlds")
    figure.supxlabel("environment steps over all clients (thousands)", fontsize=10)
    figure.savefig(said.picture, dpi=90)


if __name__ == "__main__":
    main()
