"""Real little Flower apps, unchanged, without Ray: the same whatever computes them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fedjourney

NUMPY = {"noise": 0.01, "fraction": 0.5}


def printed(app: Path, capsys: pytest.CaptureFixture[str], **arguments: object) -> str:
    capsys.readouterr()
    fedjourney.simulate(app, **arguments)
    return capsys.readouterr().out


def test_a_message_app_prints_the_same_on_any_number_of_workers(apps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [printed(apps / "numpy_fedavg", capsys, run_config=NUMPY, workers=workers) for workers in (0, 1, 2)]
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0].count("client module imported") == 1
    assert "nodes 6\n" in outputs[0]  # as its pyproject.toml says
    assert outputs[0].count(" loss ") == 9  # three rounds of half the nodes, the first one too
    again = printed(apps / "numpy_fedavg", capsys, run_config=NUMPY, workers=0)
    assert again == outputs[0]
    assert printed(apps / "numpy_fedavg", capsys, run_config=NUMPY, workers=0, seed=1) != again


def test_a_strategy_s_result_comes_back(apps: Path) -> None:
    result = fedjourney.simulate(apps / "numpy_fedavg", workers=0, nodes=4, run_config={"rounds": 2})
    assert (result.app, result.nodes, result.workers, result.failed) == ("numpy-fedavg", 4, 0, 0)
    assert result.messages == 2 * (2 + 4)
    assert result.metrics["train"].keys() == result.metrics["evaluate"].keys() == {1, 2}
    assert result.metrics["evaluate"][2]["error"] < result.metrics["evaluate"][1]["error"]
    assert result.clients_per_second > 0


def test_a_legacy_app_adds_in_the_same_order_every_time(apps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [printed(apps / "legacy", capsys, workers=workers, nodes=12) for workers in (0, 0, 2)]
    assert outputs[0] == outputs[1] == outputs[2]
    assert "round 2 12 0" in outputs[0]


def test_a_scikit_learn_app(apps: Path) -> None:
    result = fedjourney.simulate(apps / "sklearn_app", workers=0, nodes=3)
    assert result.metrics["train"][2]["accuracy"] > 0.7


@pytest.mark.parametrize("workers", [0, 2])
def test_state_actions_mods_and_lifespans(apps: Path, capsys: pytest.CaptureFixture[str], workers: int) -> None:
    out = printed(apps / "probe", capsys, nodes=3, workers=workers, run_config={"do": "state"})
    replies = [line for line in out.splitlines() if line.startswith("reply")]
    for round_ in range(3):
        for line in replies[3 * round_ : 3 * round_ + 3]:
            assert f"'count': {round_ + 1}," in line
            assert line.startswith("reply train g ")
            assert line.endswith("{'seen': True}")
    assert len({line.partition("draw")[2] for line in replies[:9]}) == 9  # every message draws its own
    assert out.count("lifespan in") == out.count("lifespan out") == 18
    assert [line.partition("{")[2].split("}")[0] for line in replies[12:15]] == [
        f"'partition': {partition}, 'state': ['counter']"  # a failed message changes no state
        for partition in range(3)
    ]
    assert "the server's own content 1\n" in out
    assert all("No train function registered with name 'missing'" in line for line in replies[15:])


@pytest.mark.parametrize("workers", [0, 2])
def test_pull_returns_what_is_ready(apps: Path, capsys: pytest.CaptureFixture[str], workers: int) -> None:
    out = printed(apps / "probe", capsys, nodes=3, workers=workers, run_config={"do": "pull"})
    assert "not all at once True\nagain 3\nunknown node []\n" in out
    assert out.count("reply query.slow") == 3


def test_timeouts_and_times_to_live(apps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(apps / "probe", capsys, nodes=3, workers=2, run_config={"do": "late"})
    assert "in time [1, 2]\n" in out
    assert out.count("reply query.slow") == 3  # the late client's next message waits for it, and is answered
    assert "expired [3, 'good', 'good']\n" in out


def test_failures_are_replies_and_each_is_shown_once(apps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = fedjourney.simulate(apps / "probe", nodes=4, workers=0, run_config={"do": "failing"})
    out, err = capsys.readouterr()
    assert (result.messages, result.failed) == (16, 12)
    assert out.count("ClientAppException occurred. Message: partition 1 has no data") == 2
    assert err.count("raise RuntimeError") == 1
    assert err.count("sys.exit(3)") == 1
    assert "partition-id 1 of 4 (node " in err
    assert '"evaluate.exit", message 3 to it' in err
    assert "flwr/clientapp" not in err  # the client's own traceback begins with its own code


def test_app_objects_run_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    client, server = ClientApp(), ServerApp()

    @client.query()
    def query(message, context):
        seen.append((context.node_config["partition-id"], context.run_config["a.b"]))
        return Message(RecordDict(), reply_to=message)

    @server.main()
    def main(grid, context):
        list(grid.send_and_receive([Message(RecordDict(), node, "query") for node in grid.get_node_ids()]))

    seen: list[tuple[int, int]] = []
    result = fedjourney.simulate((server, client), nodes=2, run_config={"a": {"b": 5}})
    assert seen == [(0, 5), (1, 5)]
    assert result.messages == 2
    with pytest.raises(fedjourney.FedjourneyError, match="expected 0 for an app of objects"):
        fedjourney.simulate((server, client), workers=2)


def test_a_server_that_raises_leaves_nothing_behind(apps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fedjourney.simulation.pool import AppError

    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(AppError, match="the server's disk is full") as caught:
        fedjourney.simulate(apps / "probe", nodes=2, workers=0, run_config={"do": "fail"})
    assert isinstance(caught.value.__cause__, OSError)
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if name.startswith("probe")}


def test_the_command_ends_with_one_object(
    apps: Path, tmp_path: Path, fedjourney_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    overrides = tmp_path / "run.toml"
    overrides.write_text('name = "from a file"\nrounds = 1\n[train]\nsteps = 2\n')
    command = ["simulate", apps / "numpy_fedavg", "--workers", "1", "--run-config", overrides, "--json"]
    done = fedjourney_command(command)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-2] == "name from a file torch imported: False"
    told = json.loads(lines[-1])
    assert (told["app"], told["nodes"], told["messages"], told["failed"]) == ("numpy-fedavg", 6, 9, 0)
    assert told["metrics"]["train"].keys() == {"1"}
    assert "6 nodes, 1 worker, seed 0" in done.stderr
    assert "9 messages in" in done.stderr


@pytest.mark.parametrize(
    ("do", "said"),
    [("fail", "OSError: the server's disk is full"), ("all_fail", "3 failed: SystemExit: 3 (partition-id 0, 1, 2)")],
)
def test_a_failed_app_ends_with_status_1(apps: Path, capsys: pytest.CaptureFixture[str], do: str, said: str) -> None:
    from fedjourney import cli

    arguments = ["simulate", str(apps / "probe"), "--nodes", "3", "--workers", "0", "--json", "-c", f'do="{do}"']
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert ("error" in json.loads(out.splitlines()[-1])) == (do == "fail")


@pytest.mark.parametrize("workers", [0, 1])
def test_streams_are_whole_and_whatever_a_client_raises_costs_its_reply_alone(
    apps: Path, capfdbinary: pytest.CaptureFixture[bytes], workers: int
) -> None:
    result = fedjourney.simulate(apps / "probe", nodes=2, workers=workers, run_config={"do": "streams"})
    out, err = (text.decode() for text in capfdbinary.readouterr())
    assert "bytes of 0\n" in out
    assert out.count("reply query.streams  {'done': 1}") == 2
    assert out.count("Unprintable, whose text raises RuntimeError") == 2
    assert "raise Unprintable" in err
    assert (result.messages, result.failed) == (4, 2)


@pytest.mark.parametrize(("code", "status"), [("", 0), ("the disk is full", 1)])
def test_a_server_that_exits_has_its_last_line_too(
    apps: Path, capsys: pytest.CaptureFixture[str], code: str, status: int
) -> None:
    from fedjourney import cli

    config = f'do="leave" folder="{code}"'
    assert cli.main(["simulate", str(apps / "probe"), "--workers", "0", "--json", "-c", config]) == status
    assert code in json.loads(capsys.readouterr().out.splitlines()[-1]).get("error", "")


def test_texts_that_name_one_table_all_count(apps: Path) -> None:
    from fedjourney.simulation import app

    nested = app.App(apps, "a", "1", "", "", "", {"a.b": 1, "a.c": 1, "d": 1})
    assert app.run_config(nested, ["a.b=2 d=2", "a.c=3", "d=4"]) == {"a.b": 2, "a.c": 3, "d": 4}
