"""The README is true: its commands run, its strategy works, its tables name what there is."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fedjourney
from fedjourney import config, plugins

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
COMMANDS = [line for _, block in BLOCKS for line in block.splitlines() if line.startswith(".venv/bin/fedjourney ")]


@pytest.mark.deploy
def test_the_commands_work_in_the_order_given(
    tmp_path: Path, fedjourney_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert len(COMMANDS) >= 5
    for line in COMMANDS:
        arguments = [word.replace("runs/mine", str(tmp_path / "mine")) for word in shlex.split(line)[1:]]
        done = fedjourney_command(arguments)
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "mine" / "report.html").exists()


def test_the_python_lines_work_and_the_quickstart_keeps_its_word(tmp_path: Path) -> None:
    code = next(block for language, block in BLOCKS if language == "python" and "import fedjourney" in block)
    code = code.replace('"configs/', f'"{ROOT}/configs/')
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = re.search(r"'accuracy': ([0-9.]+)", done.stdout)
    assert found
    assert float(found[1]) >= 0.95
    assert fedjourney.load(ROOT / "configs" / "quickstart.toml")["partition"]["clients"] >= 20


def test_the_strategy_works(tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(block for language, block in BLOCKS if language == "python" and "class SlowAverage" in block)
    (tmp_path / "slow_average.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    half = fedjourney.run(
        config.parse(small + '[strategy]\nname = "slow_average:SlowAverage"\npart = 0.25\n'), tmp_path / "a"
    )
    same = fedjourney.run(
        config.parse(small + '[strategy]\nname = "fedavg"\nserver_learning_rate = 0.25\n'), tmp_path / "b"
    )
    assert all((half.parameters[name] == same.parameters[name]).all() for name in same.parameters)


def test_the_tables_name_what_there_is() -> None:
    for kind in plugins.KINDS:
        row = "".join(line for line in README.splitlines() if line.startswith((f"| {kind} |", f"| {kind}:")))
        for name in plugins.names(kind):
            assert f"`{name}`" in row, (kind, name)
    package = ROOT / "src" / "fedjourney"
    for path in package.iterdir():
        if path.name.startswith(("_", "py.typed", ".")):
            continue
        assert f"`{path.name}{'/' if path.is_dir() else ''}`" in README, path.name
    for folder in ("clients", "server", "configs", "benchmarks", "tests"):
        assert re.search(rf"^{folder}/ ", README, re.M)
