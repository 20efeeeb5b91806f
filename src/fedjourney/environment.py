"""What a worker process, of whatever kind, finds in its environment."""

import os
import sys

_THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM", "BLIS")
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # bytes; the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(16 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # large pages where the kernel leaves them to who asks
}
"""Without these glibc may give a step's memory back after each step and fault it in again at the next, by chance:
up to 100,000 page faults a round, which can double its time. What the user has set wins."""


def worker_environment(threads: int, gpu: int | None = None) -> dict[str, str]:
    """Return this process's environment with so many threads for every library, and with all that is imported here.

    Args:
        threads: that a library may use in one worker.
        gpu: the place, among the CUDA devices that this process sees, of the only one that the worker sees.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    limits = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # without it cuBLAS does not repeat its bits
    limits |= {f"{library}_NUM_THREADS": str(threads) for library in _THREADS}
    found = _KEEP_MEMORY | os.environ | limits | {"PYTHONPATH": path}
    if gpu is not None:
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        found["CUDA_VISIBLE_DEVICES"] = seen[gpu] if seen else str(gpu)
    return found
