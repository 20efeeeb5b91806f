"""What must stand beside the quantum configs' numbers: floors, fixed observables, classical models of equal size.

    python benchmarks/quantum_baselines.py configs/heisenberg.toml --seeds 0 1 2

prints, for the data of a config and each seed (pooled, not federated), the measure of each on the same test examples,
fitted to the same training examples; what is chosen is chosen on the validation examples.
"""

import argparse
from collections.abc import Callable
from statistics import mean, stdev

import numpy as np

from fedjourney import config
from fedjourney.data import Dataset, Examples
from fedjourney.plan import held
from fedjourney.storage import data_dir

Scores = dict[str, float]


def arrays(part: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets of a split, as numpy."""
    return next(iter(part.x.values())).numpy(), next(iter(part.y.values())).numpy()


def correlations(dataset: Dataset, experiment: config.Experiment) -> Scores:
    """R² of the training mean, of ridge regression and of a kernel machine, for each target alone."""
    from sklearn.linear_model import Ridge
    from sklearn.svm import SVR

    (x, y), (validation_x, validation_y), (test_x, test_y) = map(
        arrays, (dataset.train, dataset.validation, dataset.test)
    )

    def r2(found: np.ndarray, target: np.ndarray) -> float:
        return float(1 - ((found - target) ** 2).sum() / ((target - target.mean(0)) ** 2).sum())

    def best(makes: list[Callable[[], object]]) -> float:
        fitted = [[make().fit(x, y[:, k]) for k in range(y.shape[1])] for make in makes]  # type: ignore[attr-defined]

        def predict(models: list, some: np.ndarray) -> np.ndarray:
            return np.stack([model.predict(some) for model in models], 1)

        chosen = max(fitted, key=lambda models: r2(predict(models, validation_x), validation_y))
        return r2(predict(chosen, test_x), test_y)

    return {
        "training mean": r2(np.repeat(y.mean(0)[None], len(test_y), 0), test_y),
        "ridge": best([lambda a=a: Ridge(alpha=a) for a in np.logspace(-2, 3, 6)]),
        "RBF-SVR": best([lambda c=c, e=e: SVR(C=c, epsilon=e) for c in (0.1, 1.0, 10.0) for e in (0.02, 0.05)]),
    }


def shadows(dataset: Dataset, experiment: config.Experiment) -> Scores:
    """The best threshold on one fixed average of correlators; logistic regression, on them and on their squares."""
    (x, y), (test_x, test_y) = arrays(dataset.train), arrays(dataset.test)
    near = [(axis, step) for axis in range(3) for step in range(x.shape[-1])]

    def averages(some: np.ndarray) -> np.ndarray:
        return np.stack([np.diagonal(some[:, axis], step, 1, 2).mean(1) for axis, step in near], 1)

    flat, test_flat = x.reshape(len(x), -1), test_x.reshape(len(test_x), -1)
    return {
        "majority": majority(y, test_y),
        "best fixed average": threshold(averages(x), y, averages(test_x), test_y),
        "logistic regression": logistic(flat, y, test_flat, test_y),
        "the same on squares": logistic(flat**2, y, test_flat**2, test_y),
    }


def majority(y: np.ndarray, test_y: np.ndarray) -> float:
    """Return the accuracy of the most frequent class."""
    return float((test_y == np.bincount(y).argmax()).mean())


def logistic(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """Return the accuracy of logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return float(make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(x, y).score(test_x, test_y))


def threshold(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """Return the test accuracy of the one feature and threshold (either sign) that are best in training."""
    best = (0.0, 0, 0.0, 1)
    for feature in range(x.shape[1]):
        for cut in np.unique(x[:, feature]):
            right = float(((x[:, feature] > cut) == y).mean())
            best = max(best, (right, feature, float(cut), 1), (1 - right, feature, float(cut), 0))
    _, feature, cut, above = best
    return float(((test_x[:, feature] > cut) == (test_y == above)).mean())


def cluster(dataset: Dataset, experiment: config.Experiment) -> Scores:
    """With as many shots as the model: one stabiliser with a threshold, and all of them (the ceiling)."""
    import torch

    from fedjourney.quantum.gates import H
    from fedjourney.quantum.measuring import distribution, example_keys, frequencies
    from fedjourney.quantum.states import apply_each, bit_signs, cz_signs, num_qubits, ring

    shots = int(experiment["model"].get("shots", 0))
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    for part in (dataset.train, dataset.test):
        state = part.x["state"].double()
        n = num_qubits(state)
        # CZ and H undo the cluster state; then qubit i is 0 exactly where stabiliser i is +1
        p = distribution(apply_each(state * cz_signs(n, ring(n)), H.expand(n, 4, 4)))
        p = frequencies(p, shots, example_keys(state, torch.tensor(1))) if shots else p
        scores.append(((p @ bit_signs(n, [[i] for i in range(n)])).numpy(), part.y["label"].numpy()))
    (x, y), (test_x, test_y) = scores
    return {
        "majority": majority(y, test_y),
        f"best stabiliser, {shots or 'exact'} shots": threshold(x, y, test_x, test_y),
        f"sum of all stabilisers, {shots or 'exact'} shots": threshold(
            x.sum(1, keepdims=True), y, test_x.sum(1, keepdims=True), test_y
        ),
    }


def annni(dataset: Dataset, experiment: config.Experiment) -> Scores:
    """Logistic regression, trained on the axes, on one fixed observable (the best on the axes) and on three."""
    from fedjourney.quantum.measuring import expectation
    from fedjourney.quantum.states import num_qubits

    features = []
    for part in (dataset.train, dataset.test):
        state = part.x["state"].double()
        n = num_qubits(state)
        columns = [expectation(state, "X", [0]), *(expectation(state, "ZZ", [0, step]) for step in range(1, n // 2))]
        features.append(np.stack([column.numpy() for column in columns], 1))
    (x, test_x), y, test_y = features, dataset.train.y["label"].numpy(), dataset.test.y["label"].numpy()
    single = {k: logistic(x[:, [k]], y, x[:, [k]], y) for k in range(x.shape[1])}
    best = max(single, key=lambda k: single[k])
    return {
        "majority of the axes": majority(y, test_y),
        "best fixed observable": logistic(x[:, [best]], y, test_x[:, [best]], test_y),
        "X, ZZ at distance 1, 2, 3": logistic(x, y, test_x, test_y),
    }


def images(dataset: Dataset, experiment: config.Experiment) -> Scores:
    """Logistic regression, and a network of one hidden layer of about as many parameters as the config's model."""
    from sklearn.neural_network import MLPClassifier

    from fedjourney import plugins
    from fedjourney.tasks import signature_of

    (x, y), (test_x, test_y) = arrays(dataset.train), arrays(dataset.test)
    x, test_x = x.reshape(len(x), -1), test_x.reshape(len(test_x), -1)
    model = plugins.build("model", experiment["model"], signature_of(dataset))
    size, classes = sum(p.numel() for p in model.parameters()), dataset.classes
    hidden = max(1, round((size - classes) / (x.shape[1] + 1 + classes)))
    network = MLPClassifier([hidden], max_iter=3000, random_state=0, learning_rate_init=0.01).fit(x, y)
    return {
        "logistic regression (650 parameters for 64 pixels)": logistic(x, y, test_x, test_y),
        f"network of {hidden} hidden units for the model's {size} parameters": float(network.score(test_x, test_y)),
    }


BESIDE = {"heisenberg": correlations, "ising": shadows, "cluster_states": cluster, "annni": annni}


def main() -> None:
    """Print a line for each baseline: the mean over seeds, and the deviation between them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for seed in options.seeds:
        experiment = config.load(options.config, [f"experiment.seed={seed}"])
        dataset, _ = held(experiment, data_dir())
        for name, score in BESIDE.get(experiment["data"]["name"], images)(dataset, experiment).items():
            found.setdefault(name, []).append(score)
    for name, scores in found.items():
        print(f"{name:50}  {mean(scores):.4f} ± {stdev(scores) if len(scores) > 1 else 0:.4f}")


if __name__ == "__main__":
    main()
