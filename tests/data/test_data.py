"""Data sets: split before anything else, decoded once, refused where they do not fit."""

from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from fedjourney import plugins
from fedjourney.data import Dataset, Source
from fedjourney.errors import DataError


def source(tmp_path: Path, root: Path | None = None, seed: int = 1) -> Source:
    return Source(root, tmp_path / "cache", seed, tmp_path)


def build(at: Source, **table: object) -> Dataset:
    resolved: Dataset = plugins.build("data", plugins.resolve("data", table), at)
    return resolved


def test_digits_are_scikit_learns_split_class_by_class(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    dataset = build(source(tmp_path), name="digits")
    sizes = [len(part) for part in (dataset.train, dataset.validation, dataset.test)]
    assert sum(sizes) == 1797
    assert sizes[2] == round(0.2 * 1797)
    share = torch.bincount(dataset.test.y["label"]) / torch.bincount(torch.from_numpy(load_digits().target))
    assert float((share - 0.2).abs().max()) < 0.01
    rows = torch.cat([part.x["image"].flatten(1) for part in (dataset.train, dataset.validation, dataset.test)])
    whole = torch.from_numpy(load_digits().data / 16).float()
    assert torch.equal(rows.sum(0), whole.sum(0))  # every example exactly once (sixteenths add exactly)


def test_another_seed_splits_differently_and_the_fingerprint_tells(tmp_path: Path) -> None:
    prints = [build(source(tmp_path, seed=seed), name="digits").fingerprint for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_mnist_is_whole_and_cached(data_root: Path, tmp_path: Path) -> None:
    options = {"name": "huggingface", "set": "ylecun/mnist", "limit": 500, "validation": 0.1}
    first = build(source(tmp_path, data_root), **options)
    assert first.train.x["image"].shape == (450, 1, 28, 28)
    assert first.train.y["label"][:0].dtype == torch.int64
    assert 0.99 < float(first.train.x["image"].max()) <= 1.0
    assert len(first.test) == 500
    again = build(source(tmp_path, data_root), **options)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.train.x["image"], first.train.x["image"])
    for file in (tmp_path / "cache").rglob("facts.json"):
        file.write_text("{damaged")
    assert build(source(tmp_path, data_root), **options).fingerprint == first.fingerprint


def test_a_smaller_image_is_made_of_means(data_root: Path, tmp_path: Path) -> None:
    options = {"name": "huggingface", "set": "ylecun/mnist", "limit": 50}
    whole = build(source(tmp_path, data_root), **options).train.x["image"]
    half = build(source(tmp_path, data_root), **options, resize=14).train.x["image"]
    blocks = whole.reshape(-1, 1, 14, 2, 14, 2).mean((3, 5))
    assert half.shape == blocks.shape
    assert float((half - blocks).abs().max()) <= 1.001 / 255  # rows, then columns, each rounded to 8 bits
    color = build(source(tmp_path, data_root), name="huggingface", set="uoft-cs/cifar10", limit=5, resize=16)
    assert color.train.x["image"].shape[1:] == (3, 16, 16)


def test_cifar_has_three_channels(data_root: Path, tmp_path: Path) -> None:
    dataset = build(source(tmp_path, data_root), name="huggingface", set="uoft-cs/cifar10", limit=50)
    assert dataset.train.x["image"].shape[1:] == (3, 32, 32)


def test_shakespeare_predicts_the_next_character(data_root: Path, tmp_path: Path) -> None:
    dataset = build(source(tmp_path, data_root), name="huggingface", set="tinyshakespeare", sequence_length=20)
    tokens, following = dataset.train.x["tokens"], dataset.train.y["next"]
    assert torch.equal(tokens[:, 1:], following[:, :-1])
    assert dataset.classes == len(dataset.vocabulary)
    assert set(dataset.columns) == {"speaker"}
    assert len(dataset.columns["speaker"]) == len(dataset.train)


def test_pythons_topics_need_no_download(tmp_path: Path) -> None:
    from pydoc_data.topics import topics

    dataset = build(source(tmp_path), name="python_topics")
    first = "".join(dataset.vocabulary[code] for code in dataset.train.x["tokens"][0].tolist())
    assert any(first in text for text in topics.values())
    assert set(dataset.columns["topic"]) <= set(topics)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},{-i},{i % 3}" for i in range(30))
    (tmp_path / "mine.csv").write_text(f"a,b,kind\n{rows}\n")
    dataset = build(source(tmp_path), name="arrays", path="mine.csv", target="kind")
    assert dataset.classes == 3
    features = dataset.train.x["features"]
    assert torch.equal(features[:, 0], -features[:, 1])
    assert torch.equal(features[:, 0].long() % 3, dataset.train.y["label"])


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        ({"image": [{"bytes": b"no picture", "path": ""}], "label": [1]}, {}, ["row 0", "expected an image"]),
        ({"text": ["a"], "label": [1]}, {"input": "txt"}, ['no column "txt"', 'Did you mean "text"?']),
        ({"number": [1.0], "label": [1]}, {}, ["no column of images"]),
        ({"text": ["abc"], "who": ["me"]}, {}, ["more than 80 characters", "sequence_length"]),
        ({"text": pyarrow.array([], "string"), "who": pyarrow.array([], "string")}, {}, ["empty table"]),
    ],
)
def test_tables_that_do_not_fit(
    tmp_path: Path, table: dict[str, list[object]], options: dict[str, str], words: list[str]
) -> None:
    (tmp_path / "own").mkdir()
    parquet.write_table(pyarrow.table(table), tmp_path / "own" / "train-0.parquet")
    with pytest.raises(DataError) as error:
        build(source(tmp_path), name="huggingface", set="own", **options)
    for word in words:
        assert word in str(error.value)


def test_labels_that_say_unknown_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "hidden.npz", x=np.zeros((4, 2)), y=np.array([0, 1, -1, 1]))
    with pytest.raises(DataError, match="got -1"):
        build(source(tmp_path), name="arrays", path="hidden.npz")


def test_a_subset_is_a_folder_of_the_set(data_root: Path, tmp_path: Path) -> None:
    root = data_root / "uoft-cs"
    options = {"name": "huggingface", "set": str(root), "limit": 50}
    assert len(build(source(tmp_path, data_root), **options, subset="cifar10").train) > 0
    with pytest.raises(DataError, match='Did you mean "cifar10"'):
        build(source(tmp_path, data_root), **options, subset="cifar1")
