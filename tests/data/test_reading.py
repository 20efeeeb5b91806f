"""Files as people have them: damaged caches, palettes, columns of every type, labels that are none."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from fedjourney import checks, plugins
from fedjourney.data import Dataset, Source
from fedjourney.errors import ConfigError, DataError, RunError
from fedjourney.storage import data_dir


def build(folder: Path, root: Path | None = None, **table: object) -> Dataset:
    at = Source(root, folder / "cache", 1, folder)
    dataset: Dataset = plugins.build("data", plugins.resolve("data", table), at)
    return dataset


def picture(image: Image.Image, kind: str = "PNG") -> dict[str, object]:
    file = io.BytesIO()
    image.save(file, kind)
    return {"bytes": file.getvalue(), "path": None}


def save(folder: Path, name: str = "own", **columns: object) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), folder / name / "train-0.parquet")


GREY = [picture(Image.fromarray(np.full((4, 4), 20 * n, np.uint8))) for n in range(10)]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train.x.features.npy", b""),
        ("train.y.label.npy", b"\x93NUMPY"),
        ("columns.0.npy", b"\x80\x04N."),
        ("facts.json", b"[]"),
        ("facts.json", b"{}"),
        ("facts.json", b"\xff"),
    ],
)
def test_a_damaged_cache_costs_time_only(tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / "mine.csv").write_text("a,label\n" + "\n".join(f"{i},{i % 2}" for i in range(20)))
    first = build(tmp_path, name="arrays", path="mine.csv")
    (damaged,) = (tmp_path / "cache").rglob(file)
    whole = damaged.read_bytes()
    damaged.write_bytes(content)
    assert build(tmp_path, name="arrays", path="mine.csv").fingerprint == first.fingerprint
    assert damaged.read_bytes() == whole  # and is written anew


def test_a_cache_whose_parts_do_not_belong_together_is_not_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.zeros((20, 2)), y=np.arange(20) % 2)
    first = build(tmp_path, name="arrays", path="mine.npz")
    (cache,) = (tmp_path / "cache").iterdir()
    (cache / "train.y.label.npy").write_bytes((cache / "test.y.label.npy").read_bytes())
    again = build(tmp_path, name="arrays", path="mine.npz")
    assert len(again.train.y["label"]) == len(first.train)


def test_a_cache_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync, replace = os.fsync, os.replace

    def recorded(handle: int) -> None:
        sync(handle)
        synced.append(os.fstat(handle).st_ino)

    def named(old: Path, new: Path) -> None:
        assert {path.stat().st_ino for path in (old, *old.iterdir())} <= set(synced)
        replace(old, new)
        synced.clear()

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "replace", named)
    np.savez(tmp_path / "mine.npz", x=np.zeros((20, 2)), y=np.arange(20) % 2)
    build(tmp_path, name="arrays", path="mine.npz")
    assert synced == [(tmp_path / "cache").stat().st_ino]


@pytest.mark.parametrize("name", ["arrays", "python_topics"])
def test_it_is_decoded_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("a,label\n" + "\n".join(f"{i},{i % 2}" for i in range(20)))
    options = {"path": "mine.csv"} if name == "arrays" else {"sequence_length": 4000}
    first = build(tmp_path, name=name, **options)
    module = __import__(f"fedjourney.data.{name}", fromlist=[name])
    decoder = "from_csv" if name == "arrays" else "texts"

    def again(*_: object) -> None:
        raise DataError("decoded again")

    monkeypatch.setattr(module, decoder, again)
    assert build(tmp_path, name=name, **options).fingerprint == first.fingerprint
    times = file.stat()
    file.write_text(file.read_text().replace("0,0", "9,0"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` leaves it: same size, same date
    if name == "arrays":
        with pytest.raises(DataError, match="decoded again"):
            build(tmp_path, name=name, **options)


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 3), dtype=np.uint8)
    pixels = np.random.default_rng(1).integers(0, 4, (10, 4, 4), dtype=np.uint8)

    def drawn(palette: np.ndarray, n: int) -> dict[str, object]:
        image = Image.fromarray(pixels[n])
        image.putpalette(palette.tobytes())
        return picture(image)

    def rows(images: list[dict[str, object]], name: str) -> np.ndarray:
        save(tmp_path, name, image=images, label=[0] * len(images), number=list(range(len(images))))
        found = build(tmp_path, name="huggingface", set=name, validation=0.0, test=0.1)
        whole = np.zeros((len(images), *found.train.x["image"].shape[1:]), np.float32)
        whole[found.columns["number"]] = found.train.x["image"].numpy()
        return (whole * 255).round()[found.columns["number"]].astype(np.uint8), found.columns["number"]

    greys = np.repeat(colours[:, :1], 3, axis=1)
    coloured, at = rows([drawn(colours, n) for n in range(10)], "colour")
    assert np.array_equal(coloured, colours[pixels[at]].transpose(0, 3, 1, 2))
    grey, at = rows([drawn(greys, n) for n in range(10)], "grey")
    assert np.array_equal(grey, greys[pixels[at]][..., 0][:, None])
    mixed, at = rows([drawn(colours if n >= 3 else greys, n) for n in range(10)], "mixed")
    wanted = [(colours if n >= 3 else greys)[pixels[n]].transpose(2, 0, 1) for n in at]
    assert np.array_equal(mixed, wanted)


def transparent() -> Image.Image:
    image = Image.new("RGBA", (4, 4), (9, 9, 9, 255))
    image.putpixel((0, 0), (9, 9, 9, 0))
    return image


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (picture(transparent()), ["row 3", "RGBA"]),
        (picture(Image.new("CMYK", (4, 4)), "TIFF"), ["row 3", "CMYK"]),
        (picture(Image.new("1", (4, 4))), ["row 3", "8 bits", "bool"]),
        (picture(Image.new("I;16", (4, 4))), ["row 3", "8 bits", "uint16"]),
        (picture(Image.new("L", (4, 5))), ["row 3", "[4, 4]", "[5, 4]"]),
        ({"bytes": None, "path": "a.png"}, ["row 3", "got none"]),
        (None, ["row 3", "got none"]),
    ],
)
def test_images_that_do_not_fit(tmp_path: Path, cell: object, words: list[str]) -> None:
    save(tmp_path, image=pyarrow.array([*GREY[:3], cell, *GREY[4:]], IMAGE), label=[0] * 10)
    with pytest.raises(DataError) as error:
        build(tmp_path, name="huggingface", set="own")
    for word in words:
        assert word in str(error.value)


IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def test_an_alpha_channel_that_hides_nothing_is_dropped(tmp_path: Path) -> None:
    save(tmp_path, image=[picture(Image.new("RGBA", (4, 4), (255, 0, 0, 255)))] * 10, label=[0] * 10)
    assert build(tmp_path, name="huggingface", set="own").train.x["image"][0, :, 0, 0].tolist() == [1, 0, 0]


def test_a_missing_set_names_those_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: object) -> None:
        raise ConnectionError("")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    save(tmp_path, "ylecun/mnist/plain", label=[0])
    save(tmp_path, "poems", label=[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r'there are: poems, ylecun/mnist\. Did you mean "ylecun/mnist"\?$'):
        build(tmp_path, tmp_path, name="huggingface", set="ylecun/minst")


@pytest.mark.parametrize("named", ["none", "file"])
def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEDJOURNEY_DATA", str(tmp_path / named))
    with pytest.raises(RunError, match=f"FEDJOURNEY_DATA .*{named}: expected a folder, found"):
        data_dir()


COLUMNS = [
    (pyarrow.array([i % 3 for i in range(10)], kind), 3)
    for kind in (pyarrow.int8(), pyarrow.int16(), pyarrow.uint8(), pyarrow.uint32(), pyarrow.uint64(), pyarrow.int64())
] + [
    (pyarrow.array([i % 2 == 0 for i in range(10)]), 2),
    (pyarrow.array([2**63 + i % 2 for i in range(10)], pyarrow.uint64()), 2),
    (pyarrow.array(["ab"[i % 2] for i in range(10)], pyarrow.large_string()), 2),
    (pyarrow.array(["ab"[i % 2] for i in range(10)]).dictionary_encode(), 2),
]


def test_clients_are_dealt_by_columns_of_all_types(tmp_path: Path) -> None:
    save(tmp_path, image=GREY, label=[0] * 10, **{f"c/{n}": column for n, (column, _) in enumerate(COLUMNS)})
    dataset = build(tmp_path, name="huggingface", set="own", test=0.1, validation=0.0)
    assert list(build(tmp_path, name="huggingface", set="own", test=0.1, validation=0.0).columns) == list(
        dataset.columns
    )
    for number, (_, clients) in enumerate(COLUMNS):
        table = plugins.resolve("partition", {"name": "natural", "by": f"c/{number}"})
        assert len(plugins.build("partition", table, dataset.columns, len(dataset.train), 1)) == clients, number


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([0.5] * 10, ["by", '"site"', "own", "got double"]),
        (["a"] * 7 + [None] * 3, ['"site"', "every row", "row 7"]),
        ([None] * 10, ['"site"', "got null"]),
    ],
)
def test_a_column_that_nobody_can_be_dealt_by_says_why(tmp_path: Path, column: list[object], words: list[str]) -> None:
    save(tmp_path, image=GREY, label=[0] * 10, site=column)
    dataset = build(tmp_path, name="huggingface", set="own")
    with pytest.raises(ConfigError) as error:
        checks.check_column({"name": "natural", "by": "site"}, dataset)
    for word in words:
        assert word in str(error.value)
    checks.check_column({"name": "natural", "by": "label"}, dataset)


def test_a_table_of_ones_own_is_dealt_by_its_columns(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},clinic {i % 3},{i % 2}" for i in range(30))
    (tmp_path / "mine.CSV").write_text(f"a,site,label\n{rows}\n")
    table = build(tmp_path, name="arrays", path="mine.CSV", columns=["site"])
    assert table.train.x["features"].shape[1] == 1
    assert all(
        site == f"clinic {int(a) % 3}" for site, a in zip(table.columns["site"], table.train.x["features"], strict=True)
    )
    with pytest.raises(ConfigError, match=r'"a" of mine.CSV cannot be used: it is a feature'):
        checks.check_column({"by": "a"}, table)
    x = np.arange(30.0)[:, None]
    np.savez(tmp_path / "mine.NPZ", x=x, y=np.arange(30) % 2, site=np.arange(30) % 3, bad=x)
    (tmp_path / "mine.NPZ.npz").rename(tmp_path / "mine.NPZ")
    archive = build(tmp_path, name="arrays", path="mine.NPZ", columns=["site"])
    assert np.array_equal(archive.columns["site"], archive.train.x["features"][:, 0].numpy() % 3)
    for wrong, word in [(["y"], "each once"), (["sites"], 'Did you mean "site"'), (["bad"], r"one per input \[30\]")]:
        with pytest.raises(DataError, match=word):
            build(tmp_path, name="arrays", path="mine.NPZ", columns=wrong)


def labels(bad: float | int, kind: type) -> Callable[[Path], None]:
    y = np.arange(20).astype(kind) % 2
    y[17] = bad
    return lambda file: np.savez(file, x=np.ones((20, 2)), y=y)


def inputs(bad: float) -> Callable[[Path], None]:
    x = np.ones((20, 2))
    x[17, 1] = bad
    return lambda file: np.savez(file, x=x, y=np.arange(20) % 2)


def single(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (labels(-1, np.int64), ['column "y", row 17', "got -1."]),
        (labels(1e30, np.float64), ['column "y", row 17', "got 1e+30."]),
        (labels(2**63 + 5, np.uint64), ['column "y", row 17', f"got {2**63 + 5}."]),
        (labels(0.5, np.float16), ['column "y", row 17', "got 0.5."]),
        (labels(np.nan, np.float64), ['column "y", row 17', "got nan."]),
        (inputs(1e300), ["row 17", "got 1e+300."]),
        (inputs(np.nan), ["row 17", "got NaN."]),
        (inputs(-np.inf), ["row 17", "got infinity."]),
        (lambda file: np.savez(file), ["got an archive without any"]),
        (lambda file: np.savez(file, x=np.array([{}, {}]), y=[0, 1]), ['"x"', "Python objects"]),
        (lambda file: np.savez(file, x=np.float64(3), y=[0, 1]), ['"x"', "single value"]),
        (single, ["single array", "np.savez"]),
        (lambda file: file.write_text("a,label\n1,2\n"), ["another kind", "np.savez"]),
    ],
)
def test_an_archive_that_does_not_fit(tmp_path: Path, write: Callable[[Path], None], words: list[str]) -> None:
    write(tmp_path / "mine.npz")
    with pytest.raises(DataError) as error:
        build(tmp_path, name="arrays", path="mine.npz")
    for word in ["[data] path", "mine.npz", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,a,label\n1,2,0\n2,3,1\n", ['"a" twice', "columns 1 and 2"]),
        ("a,label\n\n1,0\n\n2,-3\n", ['column "label", line 5', "got -3"]),
        ("a,label\n1,0\n1e39,1\n", ['column "a", line 3', "got 1e+39"]),
        ("a,site,label\n1,x,0\n2,,1\n", ['column "site"', "line 3", "got none"]),
    ],
)
def test_a_table_that_does_not_fit(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(DataError) as error:
        build(tmp_path, name="arrays", path="mine.csv", columns=["site"] if "site" in text else [])
    for word in words:
        assert word in str(error.value)


def test_files_of_a_set_have_one_type(tmp_path: Path) -> None:
    save(tmp_path, image=GREY, label=[0] * 10)
    table = pyarrow.table({"image": GREY, "label": pyarrow.array([0] * 10, pyarrow.int32())})
    parquet.write_table(table, tmp_path / "own" / "train-1.parquet")
    with pytest.raises(DataError, match=r'train-1.parquet: expected int64 in column "label", .*, got int32'):
        build(tmp_path, name="huggingface", set="own")
    twice = pyarrow.table([pyarrow.array([0]), pyarrow.array([1])], names=["label", "label"])
    parquet.write_table(twice, tmp_path / "own" / "train-0.parquet")
    with pytest.raises(DataError, match='got "label" twice'):
        build(tmp_path, name="huggingface", set="own")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": GREY, "label": [0] * 4 + [-7] + [0] * 5}, ['column "label", row 4', "got -7"]),
        ({"image": GREY, "label": [0] * 4 + [None] + [0] * 5}, ['"label"', "got none in 1 (the first is row 4)"]),
        ({"text": ["a"] * 9 + [None], "who": ["me"] * 10}, ['"text"', "row 9"]),
    ],
)
def test_rows_of_a_set_that_say_nothing(tmp_path: Path, columns: dict[str, object], words: list[str]) -> None:
    save(tmp_path, **columns)
    with pytest.raises(DataError) as error:
        build(tmp_path, name="huggingface", set="own")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("option", [{"deviation": 1e-300}, {"mean": 1e300}, {"limit": 2**63}, {"resize": 2**40}])
def test_numbers_that_no_pixel_can_take_are_refused(tmp_path: Path, option: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(option))}: expected"):
        build(tmp_path, name="huggingface", set="own", **option)
