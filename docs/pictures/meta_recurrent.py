"""What is earned at each pull of a bandit, and the error after each pair of a function: the picture of page 6b.

    .venv/bin/fedjourney run configs/bandits-ppo.toml --out runs/bandits
    .venv/bin/fedjourney run configs/functions-gru.toml --out runs/functions
    .venv/bin/python docs/pictures/meta_recurrent.py docs/pictures/meta_recurrent.png runs/bandits runs/functions

Rules play the very trials that the learned policy is tested on; the best predictor reads the same sequences.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from safetensors.torch import load_file

import fedjourney
from fedjourney import bandits
from fedjourney.plan import Plan, plan

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def delivered(folder: Path) -> tuple[Plan, dict[str, torch.Tensor]]:
    """Return a run's plan and its model."""
    found = plan(fedjourney.load(folder / "experiment.toml"))
    model = load_file(folder / "model.safetensors")
    return found, {name: model[name] for name in found.task.init(0)}


def by_pull(choose: Callable[[np.ndarray, np.ndarray, int], np.ndarray], rewards: np.ndarray) -> np.ndarray:
    """Return what a rule earns at each pull [T], on average over trials."""
    kept: list[np.ndarray] = []

    def watched(won: np.ndarray, lost: np.ndarray, pull: int) -> np.ndarray:
        kept.append(won.sum(-1).mean())
        return choose(won, lost, pull)

    total = bandits.play(watched, rewards).mean()
    return np.diff([*kept, total])


def main() -> None:
    """Draw."""
    said = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    said.add_argument("picture")
    said.add_argument("bandits", type=Path)
    said.add_argument("functions", type=Path)
    said = said.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")

    found, model = delivered(said.bandits)
    test = found.dataset.test
    rewards, prior = test.y["rewards"].numpy(), test.y["prior"].numpy()
    task = found.task
    with torch.no_grad():
        state = task._begun(model, len(test))  # type: ignore[attr-defined]
        kept = task._play(task._step(model), state, rewards, lambda logits, pull: logits.argmax(-1))  # type: ignore[attr-defined]
    draws = np.random.default_rng(0).random(rewards.shape)
    lines = {
        "learned (RL²)": [float(paid.mean()) for *_, paid in kept],
        "greedy on the posterior": by_pull(bandits.greedy(prior), rewards),
        "Thompson sampling": by_pull(bandits.thompson(prior, draws), rewards),
        "UCB1": by_pull(bandits.upper_confidence, rewards),
        "one arm": rewards[:, :, 0].mean(0),
    }
    for name, line in lines.items():
        left.plot(np.arange(1, len(line) + 1), line, label=name, linewidth=2.2 if "learned" in name else 1.2)
    left.set_xlabel("pull of a trial")
    left.set_ylabel("mean reward of the pull")
    left.legend(frameon=False, fontsize=8)

    found, model = delivered(said.functions)
    sums = found.task.evaluate(model, found.dataset.test)
    for name, key in (("learned", "model"), ("best predictor (Bayes)", "bayes"), ("always 0", "zero")):
        errors = (sums[key] / sums["examples"]).sqrt()
        right.plot(np.arange(len(errors)), errors, label=name, linewidth=2.2 if key == "model" else 1.2)
    right.set_xlabel("pairs of a function seen")
    right.set_ylabel("root mean squared error of the next")
    right.set_ylim(bottom=0)
    right.legend(frameon=False, fontsize=8)
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(said.picture, dpi=90)


if __name__ == "__main__":
    main()
