"""What somebody new reaches after some steps on ten points, and the numbers of docs/06-meta-learning.md.

    for seed in 0 1 2; do for name in maml meta-sgd reptile per-fedavg; do
      .venv/bin/fedjourney run configs/sinusoid-$name.toml --seed $seed --out runs/sinusoid/$name-$seed
    done; done
    .venv/bin/python docs/pictures/meta.py docs/pictures/meta.png runs/sinusoid/*

Every delivered model is adapted anew to each of the run's 500 test sinusoids, by 0 to 10 steps; beside them a fresh
network of the same make. Runs of one config are one line: the mean over seeds.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from safetensors.torch import load_file

import fedjourney
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for
from fedjourney.tensors import Tensors

matplotlib.use("Agg")
from matplotlib import pyplot as plt

STEPS = (0, 1, 3, 10)
MANY = 200  # steps of a fresh network
BELOW: dict[str, Any] = {  # of the panel, where no line can run through it
    "loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3, "frameon": False, "fontsize": 8,
}  # fmt: skip


def errors(found: Plan, params: Tensors, steps: tuple[int, ...]) -> list[float]:
    """Return the mean squared error after so many steps, over all test sinusoids."""
    told = []
    for count in steps:
        found.task.evaluation_steps = count  # type: ignore[attr-defined]
        told.append(found.task.summary(found.task.evaluate(params, found.dataset.test))["mse"])
    return told


def curve(found: Plan, params: Tensors, episode: int, steps: int, x: torch.Tensor) -> torch.Tensor:
    """Return what the model says of x [n, 1] after some steps on an episode's support."""
    task, test = found.task, found.dataset.test
    support, _ = task.parts(test.x["points"][episode], test.y["values"][episode])  # type: ignore[attr-defined]
    return task.told(task.adapted(params, support, steps), x).detach()  # type: ignore[attr-defined,no-any-return]


def main() -> None:
    """Draw, and print the table."""
    said = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    said.add_argument("picture")
    said.add_argument("runs", nargs="+", type=Path)
    said = said.parse_args()
    groups: dict[str, list[Path]] = {}
    for folder in said.runs:
        groups.setdefault(fedjourney.load(folder / "experiment.toml")["experiment"]["name"], []).append(folder)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    print(f"{'config':24} " + " ".join(f"{f'{count} steps':>14}" for count in STEPS))
    fresh, drawn = [], None
    for name, folders in sorted(groups.items()):
        scores = []
        for folder in folders:
            found = plan(fedjourney.load(folder / "experiment.toml"))
            model = load_file(folder / "model.safetensors")
            params = {key: model[key] for key in found.task.init(0)}
            scores.append(errors(found, params, STEPS))
            if name == "sinusoid-maml":
                start = found.task.init(seed_for(found.experiment.seed, "model"))
                fresh.append(errors(found, start, (*STEPS, MANY)))
                drawn = drawn or (found, params, start)
        row(name, np.array(scores), left)
    if fresh:
        row("a fresh network", np.array(fresh)[:, :-1], left)
        print(f"a fresh network after {MANY} steps: {np.mean(fresh, 0)[-1]:.3f} ± {np.std(fresh, 0, ddof=1)[-1]:.3f}")
    left.set_yscale("log")
    left.set_xlabel("steps on ten points of a new sinusoid")
    left.set_ylabel("mean squared error on its other points")
    left.grid(alpha=0.3)
    left.legend(**BELOW)
    if drawn is not None:
        example(right, *drawn)
    figure.savefig(said.picture, dpi=90)


def row(name: str, scores: np.ndarray, panel: plt.Axes) -> None:
    """Print and draw one line from errors [seeds, steps]."""
    deviation = scores.std(0, ddof=1) if len(scores) > 1 else np.zeros(len(STEPS))
    each = " ".join(f"{mean:6.3f} ± {spread:5.3f}" for mean, spread in zip(scores.mean(0), deviation, strict=True))
    print(f"{name:24} {each}")
    finite = np.where(scores.mean(0) < 20, scores.mean(0), np.nan)
    panel.plot(STEPS, finite, marker="o", markersize=3, label=name)


def example(panel: plt.Axes, found: Plan, params: Tensors, start: Tensors) -> None:
    """Draw one test sinusoid, its ten points, and what is said of it before and after ten steps."""
    episode, test = 3, found.dataset.test
    x = torch.linspace(-5, 5, 200)[:, None]
    support, query = found.task.parts(test.x["points"][episode], test.y["values"][episode])  # type: ignore[attr-defined]
    panel.plot(support.inputs, support.targets, "ko", markersize=4, label="ten points to learn from")
    panel.plot(query.inputs, query.targets, "x", color="grey", markersize=4, label="what is asked")
    for label, model, steps, line in (
        ("MAML before", params, 0, ":"), ("MAML, 1 step", params, 1, "--"), ("MAML, 10 steps", params, 10, "-"),
        ("fresh, 10 steps", start, 10, "-"),
    ):  # fmt: skip
        colour = "C3" if model is start else "C0"
        panel.plot(x, curve(found, model, episode, steps, x), line, color=colour, label=label)
    panel.legend(**BELOW)
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    main()
