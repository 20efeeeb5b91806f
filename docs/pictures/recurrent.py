"""The picture of docs/04-recurrent.md, from two runs.

    .venv/bin/fedjourney run configs/digits-rows-gru.toml --out runs/rows
    .venv/bin/fedjourney run configs/monthly-gru.toml --out runs/monthly
    .venv/bin/python docs/pictures/recurrent.py docs/pictures/recurrent.png runs/rows runs/monthly

Left: how often the network names the right digit when reading is broken off after so many rows, over the test set.
Right: the last test window of each series, what followed, and what was forecast.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from safetensors.torch import load_file

import fedjourney
from fedjourney.data import Examples
from fedjourney.plan import Plan, plan
from fedjourney.tensors import Tensors

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def finished(folder: Path) -> tuple[Plan, Tensors]:
    """Return a run's plan and delivered model."""
    found, model = plan(fedjourney.load(folder / "experiment.toml")), load_file(folder / "model.safetensors")
    return found, {name: model[name] for name in found.task.init(0)}


def by_rows(found: Plan, model: Tensors) -> list[float]:
    """Return the test accuracy after 1, 2, … rows."""
    images, labels = found.dataset.test.x["image"], found.dataset.test.y
    cut = [Examples({"image": images[:, :, : rows + 1]}, labels) for rows in range(images.shape[2])]
    return [found.task.summary(found.task.evaluate(model, some))["accuracy"] for some in cut]


def last_of_each(test: Examples) -> list[int]:
    """Return the place of each series' last test window: where the next is not the same, moved by a month."""
    past = test.x["past"]
    return [*(past[1:, :-1] != past[:-1, 1:]).any(1).nonzero().flatten().tolist(), len(test) - 1]


def by_series(found: Plan, model: Tensors) -> dict[str, dict[str, float]]:
    """Return the test metrics of each series; the run's own are over all windows, of which some series have many."""
    names, test, start, told = found.experiment["data"]["sets"], found.dataset.test, 0, {}
    for name, last in zip(names, last_of_each(test), strict=True):
        told[name] = found.task.summary(found.task.evaluate(model, test.cut(slice(start, last + 1))))
        start = last + 1
    return told


def last_windows(found: Plan, model: Tensors) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return (window, what followed, forecast) of each series' last test window."""
    names, test = found.experiment["data"]["sets"], found.dataset.test  # each of these sets is one series
    some = test.take(torch.tensor(last_of_each(test)))
    with torch.no_grad():
        forecasts = found.task.outputs(model, some.x)  # type: ignore[attr-defined]
    three = zip(some.x["past"].numpy(), some.y["future"].numpy(), forecasts.numpy(), strict=True)
    return dict(zip(names, three, strict=True))


def main() -> None:
    """Draw."""
    said = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    said.add_argument("picture")
    said.add_argument("rows", type=Path)
    said.add_argument("monthly", type=Path)
    said = said.parse_args()
    figure = plt.figure(figsize=(8.6, 4.0), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 1.35))
    panel = figure.add_subplot(grid[:, 0])
    accuracy = by_rows(*finished(said.rows))
    panel.plot(range(1, len(accuracy) + 1), [100 * share for share in accuracy], "o-", color="#2a78d6")
    panel.set(xlabel="rows of the digit read", ylabel="right digits, %", ylim=(0, 100), title="A GRU reads digits")
    panel.grid(alpha=0.3)
    monthly = finished(said.monthly)
    for place, (name, (past, future, forecast)) in enumerate(last_windows(*monthly).items()):
        panel = figure.add_subplot(grid[place, 1])
        ahead = np.arange(len(future) + 1)
        panel.plot(np.arange(1 - len(past), 1), past, color="#787878", label="seen")
        panel.plot(ahead, np.append(past[-1], future), color="#2a78d6", label="what came")
        panel.plot(ahead, np.append(past[-1], forecast), color="#eb6834", label="forecast")
        panel.set_ylabel(name, fontsize=9)
        panel.grid(alpha=0.3)
        if place == 0:
            panel.set_title("One model forecasts three series", pad=22)
            panel.legend(frameon=False, ncols=3, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 0.95))
    panel.set_xlabel("months from the last value seen")
    figure.savefig(said.picture, dpi=90)
    for name, told in by_series(*monthly).items():
        print(f"{name}:", ", ".join(f"{metric} {value:.3f}" for metric, value in told.items()))
    print("accuracy by rows:", ", ".join(f"{share:.3f}" for share in accuracy))


if __name__ == "__main__":
    main()
