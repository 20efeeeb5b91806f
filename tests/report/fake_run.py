"""A run folder as a run would leave it: data for the page's tests, and for looking at the page.

`python tests/report/fake_run.py DIR` writes some folders and their pages.
"""

import json
import math
import random
import sys
from pathlib import Path

CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TOML = """[experiment]
name = "{name}"
seed = 7
rounds = {rounds}
evaluate_every = 2
cohort = 0.2
min_replies = 1
timeout = 3600.0
holdout = 0.1

[data]
name = "cifar10"
path = "data/cifar10"

[partition]
name = "dirichlet"
clients = {clients}
alpha = {alpha}

[model]
name = "cnn"
channels = [32, 64]

[task]
name = "classification"

[update]
name = "{update}"
learning_rate = 0.05
batch_size = 32
local_epochs = 2

[strategy]
name = "fedavg"

[numerics]
dtype = "float32"
device = "cpu"
threads = 1

[engine]
name = "local"

[[transform]]
name = "clip"
norm = 10.0

[[transform]]
name = "quantise"
bits = 8
"""


def fake_run(
    folder,
    *,
    name="cifar10-dirichlet",
    rounds=50,
    clients=40,
    alpha=0.3,
    update="sgd",
    failing=True,
    ceiling=0.83,
    seed=0,
):
    """Write a finished run and return its folder."""
    dice = random.Random(seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text(
        TOML.format(name=name.replace('"', '\\"'), rounds=rounds, clients=clients, alpha=alpha, update=update)
    )
    counts = {}
    for client in range(clients):
        shares = [dice.gammavariate(alpha, 1.0) + 1e-9 for _ in CLASSES]
        size = round(40_000 / clients * dice.lognormvariate(0, 0.4))
        counts[str(client)] = [round(size * share / sum(shares)) for share in shares]
    sizes = [sum(row) for row in counts.values()]
    (folder / "partition.json").write_text(
        json.dumps({"clients": clients, "counts": counts, "classes": CLASSES, "sizes": sizes})
    )
    (folder / "run.json").write_text(
        json.dumps(
            {
                "digest": f"{dice.getrandbits(256):064x}",
                "platform": {"system": "Linux", "machine": "x86_64", "processor": "AMD EPYC", "threads": 1},
                "seconds": 318.4,
                "finished": True,
                "dataset": {
                    "name": "cifar10",
                    "classes": CLASSES,
                    "fingerprint": f"{dice.getrandbits(128):032x}",
                    "examples": {"train": 40_000, "validation": 10_000, "test": 10_000},
                },
                "parameters": 2_168_746,
                "versions": {"fedjourney": "0.1.0", "flwr": "1.41.0", "torch": "2.9.1", "python": "3.11.2"},
            }
        )
    )
    cohort = max(1, clients // 5)
    with (folder / "rounds.jsonl").open("w") as lines, (folder / "clients.jsonl").open("w") as rows:
        for at in range(rounds + 1):
            grown = 1 - math.exp(-at / (rounds / 4))
            accuracy = 0.1 + (ceiling - 0.1) * grown + dice.gauss(0, 0.008)
            loss = 2.3 - 1.75 * grown + dice.gauss(0, 0.02)
            measured = at % 2 == 0 or at == rounds
            failed = []
            if failing and at and dice.random() < 0.15:
                kind = dice.choice(["timeout", "not-finite", "lost"])
                message = {"timeout": "no reply in 3600.0 s", "lost": "the node left the federation"}.get(
                    kind, "step 3 of 6: loss is not finite (nan). Lower [update] learning_rate, now 0.05."
                )
                failed = [{"client": dice.randrange(clients), "kind": kind, "stage": "train", "message": message}]
            row = {
                "round": at,
                "test": {"accuracy": accuracy, "loss": loss} if measured else {},
                "validation": {"accuracy": accuracy + dice.gauss(0.006, 0.006), "loss": loss - 0.04}
                if measured
                else {},
                "train": {"loss": loss - 0.25 * grown} if at else {},
                "clients": {
                    "asked": cohort if at else 0,
                    "answered": cohort - len(failed) if at else 0,
                    "failed": failed,
                },
                "bytes_up": 8_674_984 * (cohort - len(failed)) // 4 if at else 0,
                "bytes_down": 8_674_984 * cohort if at else 0,
                "seconds": 6.2 + dice.random() if at else 1.1,
            }
            if measured:
                mean = accuracy - 0.02
                row["evaluation"] = {
                    "accuracy": {
                        "mean": mean,
                        "spread": 0.11 - 0.05 * grown,
                        "worst_tenth": max(0.02, mean - 0.2),
                    }
                }
            lines.write(json.dumps(row) + "\n")
            for client in dice.sample(range(clients), cohort) if at else []:
                one = {
                    "round": at,
                    "client": client,
                    "status": "ok",
                    "num-examples": sizes[client],
                    "loss": loss * dice.lognormvariate(0, 0.2),
                }
                rows.write(json.dumps(one) + "\n")
    return folder


if __name__ == "__main__":
    from fedjourney.report import write_report

    place = Path(sys.argv[1])
    one = fake_run(place / "sgd")
    two = fake_run(place / "prox", name="cifar10-prox", update="proximal", failing=False, ceiling=0.81, seed=1)
    three = fake_run(place / "scaffold", name="cifar10-scaffold", update="scaffold", rounds=30, ceiling=0.85, seed=2)
    many = fake_run(place / "many", name="cifar10-many-clients", clients=400, failing=False, seed=3)
    (many / "run.json").unlink()
    hundred = fake_run(place / "hundred", name="cifar10-hundred", clients=100, failing=False, seed=3)
    for runs in ([one], [many], [hundred], [one, two, three]):
        print(write_report(runs))
