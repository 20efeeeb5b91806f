"""A population on the optimisation surface, generation by generation: the picture of docs/08-neuroevolution.md.

    .venv/bin/python docs/pictures/neuroevolution.py configs/digits-cnn-genetic.toml docs/pictures/neuroevolution.png

runs the config (strategy genetic, open_es, snes or random_search; `--set` works as in `fedjourney run`) and keeps
every population. The surface is the fitness on the validation examples over the plane of the first two principal
components of the populations' means over time, through their last (Li et al. 2018, Visualizing the loss landscape
of neural nets, section 7). Individuals are drawn where they project onto the plane, in the colour of their own
fitness: all other directions, in which they also lie off the plane, cannot be seen.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

import fedjourney
from fedjourney import plugins
from fedjourney.plan import Plan, plan
from fedjourney.strategies import Cohort, Rounds
from fedjourney.strategies._evolution import flatten, unflatten
from fedjourney.strategies._replay import group
from fedjourney.tensors import Tensors

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIDE = 21  # points of the surface, in each direction
EVERY: list[tuple[np.ndarray, np.ndarray]] = []  # a population [M, P] and its fitness [M] for each generation


def population(rounds: Any, round: int, params: Tensors, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Return the individuals [M, P] that a strategy had scored in a round, and their fitness [M]."""
    extra, flat = rounds._extra(params), flatten(params)
    assert cohort.tensors is not None
    fitness = cohort.tensors["fitness"].flatten()
    if named := group(extra, "population/"):
        found = torch.cat([tensor.flatten(1) for tensor in named.values()], 1)
    elif hasattr(rounds, "_candidate"):
        found = torch.stack([rounds._candidate(round, number, flat, extra) for number in range(len(fitness))])
    else:
        sigma = rounds._levels(params, extra) if hasattr(rounds, "_levels") else rounds.sigma
        offsets = torch.stack([sigma * rounds._direction(round, pair, flat) for pair in range(rounds.pairs)])
        found = torch.cat([flat + offsets, flat - offsets])
    return found.double().numpy(), fitness.double().numpy()


def watched(strategy: type[Rounds]) -> type[Rounds]:
    """Return the strategy, keeping every population; nothing else changes, so the digest is that of the config."""

    class Watched(strategy):  # type: ignore[misc,valid-type]
        def tell(self, round: int, params: Tensors, cohort: Cohort) -> Any:
            EVERY.append(population(self, round, params, cohort))
            return super().tell(round, params, cohort)

    return Watched


def surface(found: Plan, models: np.ndarray) -> np.ndarray:
    """Return the fitness [n] of models [n, P] on the validation examples."""
    like, examples = found.task.init(0), found.dataset.validation
    told = []
    for model in models:
        sums = found.task.evaluate(unflatten(torch.from_numpy(model).float(), like), examples)
        metrics = found.task.summary(sums)
        told.append(-metrics["loss"] if "loss" in metrics else next(iter(metrics.values())))
    return np.array(told)


def main() -> None:
    """Run, project, draw."""
    said = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    said.add_argument("config")
    said.add_argument("picture")
    said.add_argument("--out", help="keep the run in this folder")
    said.add_argument("--set", action="append", default=[])
    said = said.parse_args()
    experiment = fedjourney.load(said.config, said.set, engine="serial")
    name = experiment["strategy"]["name"]
    module = sys.modules[plugins.load("strategy", name).__module__]
    kind = plugins.load("strategy", name)
    seen = watched(kind)  # type: ignore[arg-type]
    seen.__module__ = module.__name__
    setattr(module, kind.__name__, seen)
    with tempfile.TemporaryDirectory() as folder:
        result = fedjourney.run(experiment, said.out or Path(folder) / "run")
    print(f"{len(EVERY)} generations, test {result.rounds[-1]['test']}, digest {result.digest}")
    print("fitness in the last generation:", " ".join(f"{fitness:.4g}" for fitness in sorted(EVERY[-1][1])))
    found = plan(experiment)
    means = np.stack([individuals.mean(0) for individuals, _ in EVERY])
    origin = means[-1]
    _, sizes, axes = np.linalg.svd(means - means.mean(0), full_matrices=False)
    axes, shares = axes[:2], sizes[:2] ** 2 / (sizes**2).sum()
    places = [(individuals - origin) @ axes.T for individuals, _ in EVERY]
    low, high = np.concatenate(places).min(0), np.concatenate(places).max(0)
    edge = 0.08 * (high - low)
    xs, ys = (np.linspace(low[i] - edge[i], high[i] + edge[i], SIDE) for i in (0, 1))
    grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    heights = surface(found, origin + grid @ axes).reshape(SIDE, SIDE)
    last = len(EVERY)
    shown = sorted({round(1 + (last - 1) * share) for share in (0, 0.04, 0.12, 0.3, 0.6, 1)})
    figure, panels = plt.subplots(2, 3, figsize=(9.6, 6.4), sharex=True, sharey=True, layout="constrained")
    colour = {"cmap": "viridis", "vmin": float(np.quantile(heights, 0.02)), "vmax": float(heights.max())}
    for panel, generation in zip(panels.flat, shown, strict=False):
        panel.contourf(xs, ys, heights, levels=20, alpha=0.85, **colour)
        trail = (means[:generation] - origin) @ axes.T
        panel.plot(*trail.T, color="white", linewidth=1)
        panel.scatter(
            *places[generation - 1].T, c=EVERY[generation - 1][1], s=22, edgecolors="black", linewidths=0.5, **colour
        )
        worst, best = EVERY[generation - 1][1].min(), EVERY[generation - 1][1].max()
        panel.set_title(f"generation {generation}: {worst:.3g} to {best:.3g}", fontsize=10)
    first, second = (f"{share:.0%}" for share in shares)
    figure.supxlabel(f"first principal direction of the populations' means ({first} of their spread)", fontsize=9)
    figure.supylabel(f"second ({second})", fontsize=9)
    what = "minus the loss" if "loss" in result.rounds[-1]["test"] else "return"
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(colour["vmin"], colour["vmax"]), "viridis")
    figure.colorbar(scale, ax=panels, label=f"{what} (surface: validation; points: their fitness at the clients)")
    figure.savefig(said.picture, dpi=80)


if __name__ == "__main__":
    main()
