"""The ray engine on a real cluster of several nodes on this machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedjourney
from fedjourney import config

pytestmark = [  # Ray leaves files for the garbage collector to close
    pytest.mark.deploy,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that computes nothing, and two nodes of one processor."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@pytest.fixture
def nodes(cluster: Any) -> Iterator[list[Any]]:
    added = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield added
    for node in added:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node)


@pytest.mark.parametrize("update", ["counting", "raising"])
def test_it_gives_the_bits_of_serial(
    cluster: Any, nodes: list[Any], small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str
) -> None:
    monkeypatch.syspath_prepend(TESTS)  # for `faulty`
    text = small + f'[update]\nname = "faulty:{update}"\n'
    serial = fedjourney.run(config.parse(text), tmp_path / "serial")
    there = config.parse(text, ["engine.name=ray", f"engine.address={cluster.address}"])
    assert fedjourney.run(there, tmp_path / "ray").digest == serial.digest


def test_a_node_that_is_killed_in_the_middle_changes_no_bit(
    cluster: Any, nodes: list[Any], small: str, tmp_path: Path
) -> None:
    serial = fedjourney.run(config.parse(small), tmp_path / "serial")

    def kill(row: dict[str, Any]) -> None:
        if row["round"] == 2:
            cluster.remove_node(nodes[0], allow_graceful=False)

    there = config.parse(small, ["engine.name=ray", f"engine.address={cluster.address}"])
    assert fedjourney.run(there, tmp_path / "ray", watch=kill).digest == serial.digest


def test_no_cluster_at_the_address_says_so(small: str, tmp_path: Path) -> None:
    there = config.parse(small, ["engine.name=ray", "engine.address=127.0.0.1:1"])
    with pytest.raises(fedjourney.FedjourneyError, match="no Ray cluster"):
        fedjourney.run(there, tmp_path / "ray")
