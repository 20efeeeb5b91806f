"""Omniglot as pages 3 and 6 read it, from the authors' own archives.

python docs/omniglot.py images_background_small1.zip images_background_small2.zip DIR

writes DIR/omniglot/train-00000-of-00001.parquet: a row for each drawing, `image` (PNG), `alphabet`, `character` and
`drawer`, archive after archive in the order of these three; a drawing that is in both is taken once. The archives
(Lake et al. 2015, MIT licence) lie in the folder `python` of https://github.com/brendenlake/omniglot.
"""

import re
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PLACE = re.compile(r"(?:^|/)([^/]+)/character(\d+)/\d+_(\d+)\.png$")


def drawings(archives: list[Path]) -> dict[tuple[str, int, int], bytes]:
    """Return PNGs by (alphabet, character, drawer): those of the first archive in that order, then the next one's."""
    found: dict[tuple[str, int, int], bytes] = {}
    for archive in archives:
        with zipfile.ZipFile(archive) as files:
            places = {name: place for name in files.namelist() if (place := PLACE.search(name))}
            here = {(at[1], int(at[2]), int(at[3])): name for name, at in places.items()}
            found |= {key: files.read(here[key]) for key in sorted(here) if key not in found}
    return found


def main(arguments: list[str]) -> int:
    """Write the table; return the exit status."""
    *archives, folder = map(Path, arguments)
    missing = [str(archive) for archive in archives if not archive.is_file()]
    if missing or not archives:
        said = f"no such file: {', '.join(missing)}" if missing else "no archive named"
        print(f"docs/omniglot.py: {said}. Expected ZIP [ZIP …] DIR; {__doc__}", file=sys.stderr)
        return 2
    found = drawings(archives)
    if not found:
        print(
            f"docs/omniglot.py: expected drawings ALPHABET/characterNN/…_NN.png in {', '.join(map(str, archives))}, "
            "found none. Name Omniglot's images_background archives.",
            file=sys.stderr,
        )
        return 2
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": png, "path": None} for png in found.values()],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            "alphabet": [alphabet for alphabet, _, _ in found],
            "character": pa.array([character for _, character, _ in found], pa.int32()),
            "drawer": pa.array([drawer for _, _, drawer in found], pa.int32()),
        }
    )
    out = folder / "omniglot" / "train-00000-of-00001.parquet"
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out)
    print(f"{out}: {len(table):,} drawings of {len({place[:2] for place in found}):,} letters")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
