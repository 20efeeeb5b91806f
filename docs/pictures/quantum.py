"""The pictures of docs/07-quantum.md, each from a run.

    .venv/bin/fedjourney run configs/heisenberg.toml --out runs/heisenberg --data-dir DIR
    .venv/bin/python docs/pictures/quantum.py docs/pictures/quantum-heisenberg.png runs/heisenberg
    .venv/bin/fedjourney run configs/annni-qcnn.toml --out runs/annni
    .venv/bin/python docs/pictures/quantum.py docs/pictures/quantum-annni.png runs/annni

The first: exact correlations of unseen couplings, and what was predicted. The second: the phase that the network names
at each point of the ANNNI chain's plane, none of which it was trained on, and the boundaries known for long chains.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from safetensors.torch import load_file
from torch.func import functional_call

import fedjourney
from fedjourney import plugins
from fedjourney.data.annni import phase
from fedjourney.plan import Plan, plan
from fedjourney.tasks import signature_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap

PHASES, COLOURS = ("ferromagnetic", "paramagnetic", "antiphase"), ("#4477aa", "#ddcc77", "#aa3377")


def outputs(found: Plan, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (what the delivered model says of the test examples, their targets)."""
    model = plugins.build("model", found.experiment["model"], signature_of(found.dataset))
    delivered, test = load_file(folder / "model.safetensors"), found.dataset.test
    params = {name: delivered[name] for name in found.task.init(0)}
    with torch.no_grad():
        said = functional_call(model, params, tuple(test.x.values()))
    return said.numpy(), next(iter(test.y.values())).numpy()


def diagram(axes: plt.Axes, said: np.ndarray, label: np.ndarray) -> None:
    """Draw the phases named inside the plane."""
    named, side = said.argmax(1), round(len(said) ** 0.5)
    colours = ListedColormap(COLOURS)
    plane = named.reshape(side, side).T
    axes.imshow(plane, origin="lower", extent=(0, 1, 0, 2), aspect="auto", cmap=colours, vmin=0, vmax=2, alpha=0.75)
    k, h = np.meshgrid(np.linspace(0.005, 0.995, 200), np.linspace(0.005, 1.995, 200))
    known = np.vectorize(phase)(k, h)
    axes.contour(k, h, known, levels=[0.5, 1.5], colors="black", linewidths=1)
    for (x, y), name in zip(((0.08, 0.25), (0.35, 1.5), (0.72, 0.15)), PHASES, strict=True):
        axes.text(x, y, name, fontsize=9)
    axes.plot([0, 0], [0, 2], color="black", linewidth=4, clip_on=False)
    axes.plot([0, 1], [0, 0], color="black", linewidth=4, clip_on=False)
    axes.set(xlabel="frustration κ", ylabel="field h", xlim=(0, 1), ylim=(0, 2))
    axes.set_title(f"trained on the axes, {(named == label).mean():.0%} right inside", fontsize=10)


def scatter(axes: plt.Axes, said: np.ndarray, target: np.ndarray) -> None:
    """Draw predicted over exact correlations."""
    axes.plot([-1, 0.1], [-1, 0.1], color="black", linewidth=0.8)
    axes.scatter(target, said, s=8, alpha=0.5, color=COLOURS[0])
    r2 = 1 - ((said - target) ** 2).sum() / ((target - target.mean(0)) ** 2).sum()
    axes.set(xlabel="exact correlation of neighbours", ylabel="predicted from couplings")
    axes.set_title(f"Heisenberg, unseen couplings: R² = {r2:.2f}", fontsize=10)


DRAWN = {"annni": diagram, "heisenberg": scatter}


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("picture", "run"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    found = plan(fedjourney.load(options.run / "experiment.toml"))
    data = found.experiment["data"]["name"]
    if data not in DRAWN:
        parser.error(f'expected a run on data {" or ".join(DRAWN)}, got "{data}"')
    figure, axes = plt.subplots(figsize=(4.8, 3.8), dpi=110)
    DRAWN[data](axes, *outputs(found, options.run))
    figure.tight_layout()
    figure.savefig(options.picture)


if __name__ == "__main__":
    main()
