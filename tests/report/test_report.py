import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_run import fake_run

import fedjourney
from fedjourney import config
from fedjourney.errors import RunError
from fedjourney.report import axes, write_report
from fedjourney.report.holdings import counts_of
from fedjourney.report.reading import read_run

VOID = {"meta", "link", "br", "hr", "img"}
EVIL = "<script>alert(1)</script>\"'&"


class Checker(HTMLParser):
    """Every tag closed in order; what the page would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.fetched = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "srcset", "action") and v != "data:,"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(path):
    page = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.fetched == []
    assert not re.search(r"https?://|url\(|@import", page)
    assert re.findall(r"<svg (?![^>]*aria-hidden)[^>]*>(?!<title>)", page) == []  # every picture has a title
    return page


def test_a_run_tells_its_result_and_everything_beside_it(tmp_path):
    folder = fake_run(tmp_path / "run", rounds=10, clients=12)
    path = write_report([folder])
    assert path == folder / "report.html"
    page = check(path)
    info = json.loads((folder / "run.json").read_text())
    last = json.loads((folder / "rounds.jsonl").read_text().splitlines()[-1])
    shown = f"{100 * last['test']['accuracy']:.1f} % test accuracy after 10 rounds with 12 clients"
    for text in (shown, info["digest"], "worst tenth", "fedjourney run experiment.toml", "client 11", "2,168,746"):
        assert text in page
    assert "not finished" not in page
    assert page.count("<h1>") == 1


def test_the_page_does_not_depend_on_the_process_that_wrote_it(tmp_path):
    folder = fake_run(tmp_path / "run", rounds=3, clients=5)
    assert write_report([folder]).read_bytes() == write_report([folder], tmp_path / "two.html").read_bytes()


def test_failures_stand_by_kind_with_an_example(tmp_path):
    folder = fake_run(tmp_path / "run", rounds=2, clients=5, failing=False)
    assert "No failures." in write_report([folder]).read_text()
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    case = {"client": 3, "kind": "timeout", "stage": "train", "message": "no reply in 5 s"}
    rounds[1]["clients"]["failed"] = [case, case | {"client": 4}]
    (folder / "rounds.jsonl").write_text("\n".join(json.dumps(row) for row in rounds))
    page = check(write_report([folder]))
    assert "2 failures in 2 requests." in page
    assert "round 1, client 3: no reply in 5 s" in page


def test_whatever_a_run_says_is_text(tmp_path):
    folder = fake_run(tmp_path / "run", rounds=2, clients=4, name=EVIL, failing=False)
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    rounds[1]["clients"]["failed"] = [{"client": EVIL, "kind": EVIL, "stage": EVIL, "message": EVIL + "\ud800"}]
    rounds[2]["test"][EVIL] = 0.5
    rounds[2]["evaluation"][EVIL] = {"mean": 1.0, "spread": 0.1, "worst_tenth": 0.2}
    (folder / "rounds.jsonl").write_text("\n".join(json.dumps(row) for row in rounds))
    info = json.loads((folder / "run.json").read_text())
    info |= {"digest": EVIL, "platform": {EVIL: EVIL}, "versions": {EVIL: [EVIL]}}
    info["dataset"]["name"] = EVIL
    (folder / "run.json").write_text(json.dumps(info))
    partition = json.loads((folder / "partition.json").read_text())
    partition["classes"][0] = EVIL
    (folder / "partition.json").write_text(json.dumps(partition))
    (folder / "clients.jsonl").write_text(json.dumps({"round": 1, "client": EVIL, "status": EVIL}))
    for runs in ([folder], [folder, folder]):
        page = check(write_report(runs))
        assert "alert(1)</" not in page
        assert page.count("<script") == 1


def test_missing_and_broken_files_are_said(tmp_path):
    folder = fake_run(tmp_path / "run", rounds=4, clients=5)
    (folder / "run.json").unlink()
    (folder / "clients.jsonl").unlink()
    (folder / "partition.json").write_text("{")
    rounds = (folder / "rounds.jsonl").read_text().splitlines()
    (folder / "rounds.jsonl").write_text("\n".join(rounds[:3]) + '\n{"round": 3, "te')
    page = check(write_report([folder]))
    for said in (
        "not finished: it has written round 2 of 4",
        "run.json is missing",
        "partition.json cannot be read",
        "no clients.jsonl or clients.parquet",
        "rounds.jsonl has 1 line that cannot be read",
        "does not say how the data were divided",
    ):
        assert said in page


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"round": 0, "test": {}, "validation": {}, "train": {}}],
        [{"round": 0, "test": {"accuracy": 0.1}}],
        [{"round": 0, "test": {"accuracy": float("nan"), "loss": float("inf")}}],
        [{"round": 1, "test": {"loss": 1e308}}, {"round": 2, "test": {"loss": -1e299}}],
        [{"round": 1, "test": {"loss": 1.0}}, {"round": 2, "test": {"loss": 1.0000000000000002}}],
        [{"round": 1, "test": {"perplexity": 5e-324}}],
        [{"round": 1, "test": {"accuracy": 1.0}}, {"round": 2, "test": {"accuracy": 1.0}}],
        [{"round": "x", "test": [], "clients": None, "bytes_up": None, "seconds": "y", "evaluation": 3}],
        [{"round": 1, "clients": {"failed": None}}, {"round": 2, "clients": {"failed": ["?", {}]}}],
    ],
)
def test_odd_rounds_still_make_a_page(tmp_path, rows):
    folder = fake_run(tmp_path / "run", rounds=1, clients=2)
    (folder / "rounds.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for name in ("run.json", "partition.json", "clients.jsonl"):
        (folder / name).unlink()
    check(write_report([folder]))
    check(write_report([folder, folder]))


@pytest.mark.parametrize(
    "partition",
    [
        {"clients": 3, "counts": None, "sizes": [5, 5, 5]},
        {"clients": 150, "counts": {str(i): [i, 1] for i in range(150)}, "sizes": list(range(1, 151))},
        {"clients": 2, "counts": {"0": [0, 0], "1": [0, 0]}, "sizes": [0, 0]},
        {"clients": 1, "counts": {"0": [4]}},
        {"clients": 2, "counts": {"0": "?"}, "sizes": "?"},
        {"clients": 2, "counts": [[1, 2], [3]], "sizes": [3, 3]},
    ],
)
def test_any_partition_makes_a_page(tmp_path, partition):
    folder = fake_run(tmp_path / "run", rounds=1, clients=2)
    (folder / "partition.json").write_text(json.dumps(partition))
    check(write_report([folder]))


def test_counts_are_read_by_client_whichever_way_they_lie(tmp_path):
    folder = fake_run(tmp_path / "run", rounds=1, clients=2)
    wanted = [[1, 2, 3], [4, 5, 6]]
    by_class = {"0": [1, 4], "1": [2, 5], "2": [3, 6]}
    for counts in (wanted, {"0": wanted[0], "1": wanted[1]}, by_class):
        (folder / "partition.json").write_text(json.dumps({"clients": 2, "counts": counts}))
        assert counts_of(read_run(folder)) == wanted


def test_client_rows_in_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    folder = fake_run(tmp_path / "run", rounds=2, clients=5)
    rows = [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]
    before = write_report([folder]).read_text()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "clients.parquet")
    (folder / "clients.jsonl").unlink()
    assert write_report([folder]).read_text() == before
    (folder / "clients.parquet").write_bytes(b"no parquet")
    assert "clients.parquet cannot be read" in write_report([folder]).read_text()


def test_several_runs_lie_over_each_other(tmp_path):
    one = fake_run(tmp_path / "one", rounds=4, clients=5)
    two = fake_run(tmp_path / "two", rounds=6, clients=5, update="proximal", ceiling=0.6)
    path = write_report([one, two])
    assert path == tmp_path / "comparison.html"
    page = check(path)
    assert "one ends best" in page  # the experiments share a name, so the folders' names are taken
    assert "<td>sgd</td><td>proximal</td>" in page
    assert "Test accuracy for what was sent" in page


def test_more_runs_than_labels_have_a_legend(tmp_path):
    runs = [fake_run(tmp_path / f"{i}", rounds=2, clients=5, name=f"run {i}", seed=i) for i in range(20)]
    assert 'class="legend"' in check(write_report(runs, tmp_path / "deep" / "page.html"))


def test_errors_say_where_what_and_what_to_do(tmp_path):
    with pytest.raises(RunError, match="expected at least one run folder"):
        write_report([])
    with pytest.raises(RunError, match=r"nowhere: no such folder\. Expected the folder of a run\. Name"):
        write_report([tmp_path / "nowhere"])
    folder = fake_run(tmp_path / "run", rounds=1, clients=2)
    with pytest.raises(RunError, match="cannot be written"):
        write_report([folder], folder / "run.json" / "page.html")
    (folder / "experiment.toml").write_text("[")
    with pytest.raises(RunError, match="not valid TOML"):
        write_report([folder])
    (folder / "rounds.jsonl").unlink()
    with pytest.raises(RunError, match=r"there is no rounds\.jsonl\. Expected .* Name the folder"):
        write_report([folder])


@pytest.mark.parametrize(("low", "high"), [(0, 87), (0, 0), (-3, 3), (5, 5), (0.555, 2.31), (0, 1e9), (1e-9, 2e-9)])
def test_ticks_are_few_and_enclose_the_values(low, high):
    found = axes.ticks(low, high)
    assert 2 <= len(found) <= 12
    assert found[0] <= low
    assert found[-1] >= high
    assert found == sorted(set(found))


def test_nothing_heavy_is_imported(tmp_path):
    folder = fake_run(tmp_path / "run", rounds=2, clients=3)
    code = (
        "import sys, pathlib; from fedjourney.report import write_report; "
        f"write_report([pathlib.Path({str(folder)!r})]); "
        "print(sorted({'torch', 'flwr', 'numpy', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_leads_with_clients_own_models_where_they_have_any(small: str, tmp_path: Path) -> None:
    run = fedjourney.run(config.parse(small, ["strategy.name=ditto", "experiment.rounds=1"]), tmp_path / "run")
    own = run.rounds[-1]["evaluation"]["personal/accuracy"]["mean"]
    page = (run.folder / "report.html").read_text()
    assert f'<p class="result">{100 * own:.1f} % mean accuracy of clients&#x27; own models after 1 round' in page
    assert f"<dt>shared model, test accuracy</dt><dd>{100 * run.rounds[-1]['test']['accuracy']:.1f} %" in page
