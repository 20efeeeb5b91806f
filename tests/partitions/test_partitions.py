"""Partitions: disjoint, complete, reproducible, and as skewed as they say."""

import numpy as np
import pytest

from fedjourney import plugins
from fedjourney.errors import ConfigError
from fedjourney.partitions import Shards

LABELS = np.random.default_rng(0).integers(0, 10, 2000)
COLUMNS = {"label": LABELS, "speaker": np.array([f"s{i % 37}" for i in range(2000)])}
EVERY = {name: {} for name in plugins.names("partition")} | {"natural": {"by": "speaker"}}
EVERY["virtual"] = {"clients": 30}
DEALT = [name for name in EVERY if name != "virtual"]


def draw(name: str, seed: int = 3, **options: object) -> Shards:
    table = plugins.resolve("partition", {"name": name, **EVERY[name], **options})
    shards: Shards = plugins.build("partition", table, COLUMNS, len(LABELS), seed)
    return shards


@pytest.mark.parametrize("name", DEALT)
def test_disjoint_complete_ascending_reproducible(name: str) -> None:
    shards, again = draw(name), draw(name)
    rows = np.concatenate(shards)
    assert sorted(rows) == list(range(2000))
    assert all(len(one) > 0 and (np.diff(one) > 0).all() for one in shards)
    assert all(np.array_equal(a, b) for a, b in zip(shards, again, strict=True))


@pytest.mark.parametrize("name", [name for name in EVERY if name != "natural"])
def test_another_seed_deals_anew(name: str) -> None:
    assert any(not np.array_equal(a, b) for a, b in zip(draw(name), draw(name, seed=4), strict=True))


def classes(shards: Shards) -> list[int]:
    return [len(np.unique(LABELS[rows])) for rows in shards]


def test_skews_are_what_they_say() -> None:
    assert min(classes(draw("iid", clients=10))) == 10
    assert max(classes(draw("shards", clients=50))) <= 4  # two shards, each within two neighbouring labels
    strong, weak = draw("dirichlet", clients=10, alpha=0.1), draw("dirichlet", clients=10, alpha=100.0)
    assert np.mean(classes(strong)) < 8 < np.mean(classes(weak))
    sizes = [len(rows) for rows in draw("sizes", clients=10)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == pytest.approx(10 * sizes[0], rel=0.15)


def test_natural_owners_stay_whole() -> None:
    shards = draw("natural")
    assert len(shards) == 37
    assert all(len(set(COLUMNS["speaker"][rows])) == 1 for rows in shards)
    assert len(draw("natural", clients=5)) == 5


@pytest.mark.parametrize("by", ["speaker", "label"])
def test_natural_owners_are_those_of_flwr_datasets(by: str) -> None:
    from datasets import Dataset
    from flwr_datasets.partitioner import NaturalIdPartitioner

    reference = NaturalIdPartitioner(partition_by=by)
    reference.dataset = Dataset.from_dict({by: COLUMNS[by].tolist(), "row": list(range(2000))})
    parts = [reference.load_partition(place)["row"] for place in range(reference.num_partitions)]
    assert sorted(map(tuple, draw("natural", by=by))) == sorted(map(tuple, parts))


def test_natural_holds_out_whole_clients() -> None:
    assert draw("natural").unseen == 4  # a tenth of 37
    assert draw("natural", clients=1).unseen == 0  # somebody trains
    assert draw("natural", unseen=0.5, clients=10).unseen == 5


def test_virtual_clients_cost_nothing_until_drawn_and_are_the_same_whenever_they_are() -> None:
    many = draw("virtual", clients=10**12, examples=60, classes=2)
    assert len(many) == 10**12
    rows = many[123_456_789_012]
    assert np.array_equal(rows, draw("virtual", clients=10**12, examples=60, classes=2)[123_456_789_012])
    assert len(rows) == 60
    assert (np.diff(rows) > 0).all()
    assert sorted(np.unique(LABELS[rows], return_counts=True)[1]) == [30, 30]


def test_virtual_draws_are_uniform() -> None:
    found = np.bincount(np.concatenate(list(draw("virtual", clients=1000, examples=20))), minlength=2000)
    assert found.sum() == 20_000
    assert ((found - 10) ** 2 / 10).sum() < 2200  # chi-squared, 1999 degrees of freedom: p = 0.001 at 2199


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("iid", {"clients": 2001}, ["2000", "2001"]),
        ("shards", {"clients": 1001}, ["2000", "1001"]),
        ("dirichlet", {"by": "labl"}, ['no column "labl"', 'Did you mean "label"?']),
        ("natural", {"at_least": 500}, ["[partition] at_least", "of 37 values", "got 500"]),
        ("natural", {"clients": 38}, ["37", "38"]),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        draw(name, **options)
    for word in words:
        assert word in str(error.value)
