"""Measurement records of Heisenberg ground states."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, Lt

from fedjourney.data import Dataset, Examples, Source
from fedjourney.data._cache import cached, file_key
from fedjourney.data._common import fingerprint_of
from fedjourney.errors import DataError
from fedjourney.quantum.shadows import agreements
from fedjourney.seeds import permutation, seed_for

REACH = 2


def heisenberg(
    source: Source,
    /,
    *,
    lattice: Literal["4x5", "5x5", "6x5"] = "4x5",
    shots: Annotated[int, Ge(1), Le(1000)] = 1000,
    view: Literal["edge", "lattice"] = "edge",
    validation: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
    test: Annotated[float, Ge(0), Lt(0.5)] = 0.2,
) -> Dataset:
    """Real records of Huang et al.: nearest-neighbour correlations of 2-D Heisenberg ground states, from couplings.

    About a hundred instances H = Σ J_ij (XX + YY + ZZ) of random couplings J on a lattice. What is learned from are
    the correlations (⟨XX⟩ + ⟨YY⟩ + ⟨ZZ⟩) / 3 as the first `shots` randomised measurements of an instance estimate
    them; validation and test are other instances, and hold the exact values. `<data root>/heisenberg` must hold
    `heisenberg_4x5.npz` and so on (arrays measurements, couplings, xx, yy, zz).

    Target "correlation". Column "instance".

    Args:
        source: data root, cache, seed of the split.
        lattice: rows x columns.
        shots: of each training instance.
        view: "edge": an example is a pair of neighbours, its input the couplings within two sites of it, seen along
            the pair, 0 where there is none [49]; "lattice": an example is an instance, all couplings in, all
            correlations out.
        validation: share of the instances.
        test: share of the instances.

    Reference: Huang et al. 2022, Provably efficient machine learning for quantum many-body problems, Science 377,
    https://arxiv.org/abs/2106.12627; Lewis et al. 2024, https://arxiv.org/abs/2301.13169, for local couplings.
    """
    path = _path(source, lattice)

    def decode() -> Dataset:
        records = _read(path)
        rows, columns = (int(part) for part in lattice.split("x"))
        pairs = edges(rows, columns)
        couplings, measurements = records["couplings"], records["measurements"][:, :shots]
        _check(path, couplings, measurements, pairs, rows * columns)
        exact = np.mean([records[axis][:, pairs[:, 0], pairs[:, 1]] for axis in ("xx", "yy", "zz")], axis=0)
        axes, outcomes = measurements // 2, 1 - 2 * (measurements % 2).astype(np.int64)
        estimates = agreements(axes, outcomes, pairs)
        x = (neighbourhoods(couplings, rows, columns) if view == "edge" else couplings).astype(np.float32)
        order, count = permutation(seed_for(source.seed, "test"), len(x)), len(x)
        cuts = np.cumsum([round(test * count), round(validation * count)])
        chosen = [np.sort(part) for part in np.split(order, cuts)]

        def part(rows: np.ndarray, target: np.ndarray) -> Examples:
            inputs, outputs = torch.from_numpy(x[rows]), torch.from_numpy(target[rows].astype(np.float32))
            if view == "edge":
                inputs, outputs = inputs.flatten(0, 1), outputs.reshape(-1, 1)
            return Examples({"couplings": inputs}, {"correlation": outputs})

        parts = (part(chosen[2], estimates), part(chosen[1], exact), part(chosen[0], exact))
        instance = np.repeat(chosen[2], len(pairs) if view == "edge" else 1)
        outputs = parts[0].y["correlation"].shape[1]
        return Dataset(f"heisenberg {lattice}", *parts, {"instance": instance}, outputs, fingerprint_of(parts))

    return cached(source.cache_dir, ["heisenberg", file_key(path), shots, view, validation, test, source.seed], decode)


def edges(rows: int, columns: int) -> np.ndarray:
    """Return the pairs of neighbouring sites [E, 2] in the order of the records: by site, down before right."""
    found = []
    for row in range(rows):
        for column in range(columns):
            site = row * columns + column
            found += [(site, site + columns)] if row + 1 < rows else []
            found += [(site, site + 1)] if column + 1 < columns else []
    return np.array(found)


def neighbourhoods(couplings: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the couplings around each pair [instances, E, 49], 0 beyond the border.

    25 that lie as the pair does, within two sites; then 24 across it. A standing pair is seen as a lying one in the
    transposed lattice, so that one function can serve all pairs.
    """
    flat = np.zeros((2, len(couplings), rows + 2 * REACH + 1, columns + 2 * REACH + 1))  # lying, standing
    for edge, (a, b) in enumerate(edges(rows, columns)):
        flat[int(b - a != 1), :, a // columns + REACH, a % columns + REACH] = couplings[:, edge]
    seen = []
    for a, b in edges(rows, columns):
        row, column = a // columns, a % columns  # of the window's corner, two up and two to the left
        along, across = flat if b - a == 1 else flat[::-1].transpose(0, 1, 3, 2)
        row, column = (row, column) if b - a == 1 else (column, row)
        window = along[:, row : row + 5, column : column + 5], across[:, row : row + 4, column : column + 6]
        seen.append(np.concatenate([part.reshape(len(couplings), -1) for part in window], 1))
    return np.stack(seen, 1)


def _path(source: Source, lattice: str) -> Path:
    roots = [root for root in (source.data_dir, source.base_dir) if root is not None]
    for root in roots:
        path = root / "heisenberg" / f"heisenberg_{lattice}.npz"
        if path.is_file():
            return path
    looked = ", ".join(str(root / "heisenberg") for root in roots)
    raise DataError(
        f"[data] heisenberg: expected heisenberg_{lattice}.npz in one of {looked}, found none. Name the data root by "
        "--data-dir or FEDJOURNEY_DATA (records: arXiv 2106.12627), or take [data] ising, which needs none."
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    names = ("measurements", "couplings", "xx", "yy", "zz")
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in names}
    except Exception as error:  # whatever a broken file can raise
        raise DataError(f"{path}: expected the arrays {', '.join(names)}, cannot be read ({error}).") from None


def _check(path: Path, couplings: np.ndarray, measurements: np.ndarray, pairs: np.ndarray, sites: int) -> None:
    if couplings.shape[1:] != (len(pairs),) or measurements.shape[::2] != (len(couplings), sites):
        raise DataError(
            f"{path}: expected couplings [instances, {len(pairs)}] and measurements [instances, shots, {sites}], "
            f"got {list(couplings.shape)} and {list(measurements.shape)}."
        )
