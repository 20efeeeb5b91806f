"""The command line in processes of their own."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "fedjourney.cli", *map(str, arguments)]


def environment(options: dict[str, Any]) -> dict[str, Any]:
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])  # the code under test, too
    env = os.environ | {"PYTHONPATH": path} | options.pop("env", {})
    return {"env": env, "cwd": ROOT, **options}
