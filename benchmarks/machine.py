"""What was measured on: processor, versions, and whether anybody else was using it."""

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

PACKAGES = ("fedjourney", "torch", "numpy", "flwr", "ray", "pfl")


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, system."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        name = platform.processor()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "processor": name or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "isa": torch.backends.cpu.get_cpu_capability(),
    }


def versions() -> dict[str, str]:
    """Return versions of Python, of ours (with the commit) and of the peers."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    here = Path(__file__).parent
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
    )
    if git.returncode == 0:
        found["fedjourney"] += f" ({git.stdout.strip()})"
    return found


def busy(seconds: float = 0.5) -> float | None:
    """Return which share of the machine somebody uses while we wait; None where the system does not tell."""
    try:
        before = _ticks()
        time.sleep(seconds)
        after = _ticks()
    except OSError:
        return None
    idle, total = (new - old for new, old in zip(after, before, strict=True))
    return round(1 - idle / total, 3) if total else None


def _ticks() -> tuple[int, int]:
    """Return ticks (idle or waiting for a disk, all) since the machine was started."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
