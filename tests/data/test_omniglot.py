"""The script that makes Omniglot's table from the authors' archives."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq

SCRIPT = Path(__file__).parents[2] / "docs" / "omniglot.py"


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_the_authors_archives_become_the_table(tmp_path: Path, data_root: Path) -> None:
    """Archives in the authors' layout, that overlap as theirs do, give back every drawing once and in order."""
    table = pq.read_table(data_root / "omniglot")
    rows = table.to_pylist()
    border = [row["alphabet"] for row in rows].index("Japanese_(katakana)")  # the second archive's first of its own
    for number, part in enumerate((rows[:border], rows[:480] + rows[border:]), 1):
        with zipfile.ZipFile(tmp_path / f"images_background_small{number}.zip", "w") as archive:
            archive.writestr(f"images_background_small{number}/strokes.txt", "nothing to see")
            for at, row in reversed(list(enumerate(part))):
                folder = f"images_background_small{number}/{row['alphabet']}/character{row['character']:02d}"
                archive.writestr(f"{folder}/{at // 20:04d}_{row['drawer']:02d}.png", row["image"]["bytes"])
    done = script(*(tmp_path / f"images_background_small{number}.zip" for number in (1, 2)), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4,840 drawings of 242 letters" in done.stdout
    written = pq.read_table(tmp_path / "omniglot")
    assert written.schema.remove_metadata() == table.schema.remove_metadata()
    assert written.to_pylist() == rows


def test_what_is_no_archive_of_drawings_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a/b.png", b"")
    for arguments, words in (
        ([tmp_path], "no archive named"),
        ([tmp_path / "none.zip", tmp_path], "none.zip"),
        ([tmp_path / "other.zip", tmp_path], "found none"),
    ):
        done = script(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "omniglot").exists()
