"""Transforms: what they promise of the numbers, and what they weigh."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from quadratic import Federation, alike, flat, optimum

import fedjourney
from fedjourney import config, plugins
from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.transforms._packing import pack, unpack
from fedjourney.wire import encoded_size

EVERY = plugins.names("transform")


def built(name: str, **options: Any) -> Transform:
    transform: Transform = plugins.build("transform", plugins.resolve("transform", {"name": name, **options}))
    return transform


def update(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensors:
    draw = torch.Generator().manual_seed(seed)
    return {
        "update/a": torch.randn(7, 30, generator=draw, dtype=dtype),
        "update/b": 3 * torch.randn(11, generator=draw, dtype=dtype),
    }


def vector(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def there(transform: Transform, sent: Tensors, seed: int = 0, state: Tensors | None = None) -> tuple[Tensors, Tensors]:
    wire, kept = transform.encode(sent, state or {}, seed)
    return transform.decode(wire, sent | {"control/a": torch.zeros(2)}), kept


@pytest.mark.parametrize("name", EVERY)
def test_names_shapes_and_dtypes_come_back(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        sent = update(dtype=dtype)
        got, _ = there(built(name), sent, seed=2**63 - 1)
        assert {n: (t.shape, t.dtype) for n, t in got.items()} == {n: (t.shape, t.dtype) for n, t in sent.items()}


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_gives_the_same_bits_and_nothing_is_changed_in_place(name: str) -> None:
    sent, before = update(), update()
    wires = [built(name).encode(sent, {}, 5)[0] for _ in range(2)]
    assert all(torch.equal(wires[0][n], wires[1][n]) for n in wires[0])
    assert all(torch.equal(sent[n], before[n]) for n in before)


@pytest.mark.parametrize("name", EVERY)
def test_an_update_of_zeros_stays_finite(name: str) -> None:
    got, _ = there(built(name), {n: torch.zeros_like(t) for n, t in update().items()})
    assert torch.isfinite(vector(got)).all()
    if name != "gaussian":
        assert float(vector(got).abs().max()) == 0


@pytest.mark.parametrize(
    ("name", "options"), [("qsgd", {"levels": 1}), ("qsgd", {"levels": 5, "bucket": 512}), ("randk", {"share": 0.1})]
)
def test_it_is_unbiased_over_seeds(name: str, options: dict[str, Any]) -> None:
    sent, transform, seeds = update(), built(name, **options), 400
    mean = torch.stack([vector(there(transform, sent, seed)[0]) for seed in range(seeds)]).mean(0)
    if name == "randk":
        deviation = vector(sent).abs() * (221 / 22 - 1) ** 0.5
    else:  # of a number between two levels of its tensor's norm
        steps = torch.cat([(t.norm() / options["levels"]).expand(t.numel()) for t in sent.values()])
        above = (vector(sent).abs() / steps) % 1
        deviation = steps * (above * (1 - above)).sqrt()
    error = (mean - vector(sent)).abs()
    assert bool((error <= 5 * deviation / seeds**0.5 + 1e-6).all())  # 1e-6: norms travel in float32


@pytest.mark.parametrize(("levels", "size"), list(itertools.product([1, 4, 20], [16, 512])))
def test_qsgds_variance_is_within_its_bound(levels: int, size: int) -> None:
    sent = {"update/a": update()["update/a"].flatten()[:size]}
    x, count = vector(sent), vector(sent).numel()
    transform = built("qsgd", levels=levels, bucket=size)
    error = torch.stack([(vector(there(transform, sent, seed)[0]) - x) ** 2 for seed in range(200)]).mean(0).sum()
    assert float(error) <= 1.1 * min(count / levels**2, count**0.5 / levels) * float((x**2).sum())


def test_topk_keeps_the_largest_and_contracts() -> None:
    sent, share = update(), 0.1
    x, got = vector(sent), vector(there(built("topk", share=share), sent)[0])
    k = round(share * x.numel())
    assert int((got != 0).sum()) == k
    assert float(x[got != 0].abs().min()) >= float(x[got == 0].abs().max())
    assert float(((x - got) ** 2).sum()) <= (1 - k / x.numel()) * float((x**2).sum())
    assert torch.equal(vector(there(built("topk", share=1.0), sent)[0]), x)


@pytest.mark.parametrize(("name", "options"), [("topk", {}), ("randk", {"error_feedback": True}), ("sign", {})])
def test_error_feedback_loses_nothing(name: str, options: dict[str, Any]) -> None:
    transform, state = built(name, **options), dict[str, torch.Tensor]()
    total = sent = torch.zeros(221, dtype=torch.float64)
    for round_ in range(20):
        # whole numbers of 2^-10, so that sums of values and selections are exact
        fresh = {n: (t * 1024).round() / 1024 for n, t in update(round_).items()}
        got, state = there(transform, fresh, round_, state)
        total, sent = total + vector(fresh), sent + vector(got)
    exact = 0.0 if name != "sign" else 1e-12  # the scale of signs is a mean
    assert float((sent + vector(state) - total).abs().max()) <= exact
    assert float(vector(state).abs().max()) > 0


def test_randk_sends_the_numbers_at_the_seeds_places() -> None:
    sent = update()
    x, got = vector(sent), vector(there(built("randk", share=0.25), sent, 9)[0])
    assert int((got != 0).sum()) == round(0.25 * 221)
    torch.testing.assert_close(got[got != 0], x[got != 0] * (221 / 55), rtol=1e-15, atol=0)
    other = vector(there(built("randk", share=0.25), sent, 10)[0])
    assert not torch.equal(got != 0, other != 0)


def test_norm_clip_shortens_what_is_too_long_only() -> None:
    sent = update()
    norm = float(vector(sent).norm())
    assert torch.equal(vector(there(built("norm_clip", radius=norm + 1), sent)[0]), vector(sent))
    clipped = vector(there(built("norm_clip", radius=0.5), sent)[0])
    torch.testing.assert_close(clipped, vector(sent) * (0.5 / norm), rtol=1e-12, atol=0)


def test_gaussian_noise_has_its_size_and_differs_by_seed() -> None:
    sent = {"update/a": torch.zeros(20_000)}
    noise = [vector(there(built("gaussian", sigma=0.3), sent, seed)[0]) for seed in (1, 2)]
    assert abs(float(noise[0].std()) - 0.3) < 5 * 0.3 / (2 * 20_000) ** 0.5
    assert abs(float(noise[0].mean())) < 5 * 0.3 / 20_000**0.5
    assert abs(float((noise[0] * noise[1]).mean())) < 5 * 0.09 / 20_000**0.5


def test_signs_are_signs_times_the_mean_size() -> None:
    sent = update()
    got, _ = there(built("sign"), sent)
    for name, tensor in sent.items():
        torch.testing.assert_close(got[name], torch.sign(tensor) * tensor.abs().mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("bits", "count"), list(itertools.product([1, 2, 3, 7, 8, 13, 16], [0, 1, 8, 101])))
def test_packing_is_undone_and_leaves_no_gaps(bits: int, count: int) -> None:
    codes = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-count * bits // 8)
    assert torch.equal(unpack(packed, bits, count), codes)
    with pytest.raises(ValueError, match="bytes"):
        unpack(torch.zeros(packed.numel() + 1, dtype=torch.uint8), bits, count)


@pytest.mark.parametrize(
    ("name", "options", "raw"),
    [
        ("half", {}, 2 * 221),
        ("norm_clip", {}, 4 * 221),
        ("gaussian", {}, 4 * 221),
        ("topk", {"share": 0.1}, 22 * (4 + 4)),
        ("randk", {"share": 0.1}, 22 * 4 + 8),
        ("sign", {}, (27 + 4) + (2 + 4)),  # ceil(210 / 8), ceil(11 / 8) and a scale each
        ("qsgd", {"levels": 7}, (105 + 4) + (6 + 4)),  # 4 bits each
        ("qsgd", {"levels": 1, "bucket": 100}, (53 + 3 * 4) + (3 + 4)),  # 2 bits each
        ("qsgd", {"levels": 127}, (210 + 4) + (11 + 4)),
    ],
)
def test_what_is_charged_is_what_was_counted_by_hand(name: str, options: dict[str, Any], raw: int) -> None:
    wire, _ = built(name, **options).encode(update(dtype=torch.float32), {}, 3)
    empty = {n: t.flatten()[:0].view(*t.shape[:-1], 0) for n, t in wire.items()}
    shapes = sum(
        len(str(list(t.shape))) - len(str(list(e.shape))) for t, e in zip(wire.values(), empty.values(), strict=True)
    )
    assert encoded_size(wire) - encoded_size(empty) - shapes == raw


@pytest.mark.parametrize(
    "chain",
    [["norm_clip", "topk", "qsgd"], ["topk", "half"], ["randk", "sign"], ["gaussian", "qsgd"], ["sign", "half"]],
)
def test_transforms_can_follow_each_other(chain: list[str]) -> None:
    options = {"topk": {"share": 0.5}, "randk": {"share": 0.5}, "qsgd": {"levels": 127}, "norm_clip": {"radius": 9.0}}
    transforms = [built(name, **options.get(name, {})) for name in chain]
    sent = update()
    wire = sent
    for number, transform in enumerate(transforms):
        wire, _ = transform.encode(wire, {}, number)
    for transform in reversed(transforms):
        wire = transform.decode(wire, sent)
    assert {n: t.shape for n, t in wire.items()} == {n: t.shape for n, t in sent.items()}
    x, got = vector(sent), vector(wire)
    assert float(x @ got / (x.norm() * got.norm())) > 0.4


def test_coordinates_cannot_be_taken_of_what_is_encoded_already() -> None:
    wire, _ = built("qsgd").encode(update(), {}, 0)
    with pytest.raises(ValueError, match="must be the first"):
        built("topk").encode(wire, {}, 0)


@pytest.mark.parametrize("name", ["topk", "sign"])
def test_error_feedback_reaches_the_optimum_though_replies_are_lost(name: str) -> None:
    options = {"share": 0.2} if name == "topk" else {}
    run = Federation("fedavg", {}, alike(5), 4, transforms=[built(name, **options)], lost=0.2).run(60)
    start = float((flat(run.task.init(0)) - optimum(run.shards)).norm())
    assert float((flat(run.params) - optimum(run.shards)).norm()) < 0.1 * start


def test_with_scaffold_only_the_update_is_encoded() -> None:
    run = Federation("scaffold", {}, alike(5), 4, transforms=[built("half")], lost=0.2).run(60)
    assert float((flat(run.params) - optimum(run.shards)).norm()) < 1e-2


@pytest.mark.parametrize(("name", "options"), [("topk", "share = 0.1\n"), ("sign", "")])
def test_a_run_sends_less_and_still_learns(name: str, options: str, small: str, tmp_path: Path) -> None:
    text = f'{small}[update]\nname = "sgd"\nepochs = 3\n[[transform]]\nname = "{name}"\n{options}'
    result = fedjourney.run(config.parse(text, ["experiment.evaluate_every=0"]), tmp_path / "run")
    assert result.rounds[-1]["bytes_up"] < 4 * 0.25 * encoded_size(result.parameters)
    assert not any(row["clients"]["failed"] for row in result.rounds[1:])
    assert result.rounds[-1]["test"]["loss"] < 0.9 * result.rounds[0]["test"]["loss"]


@pytest.mark.parametrize("strategy", ["alternating", "fedchain"])
def test_replies_without_an_update_pass_transforms_by(strategy: str, small: str, tmp_path: Path) -> None:
    options = "population = 4" if strategy == "alternating" else "switch = 2"
    text = f'{small}[[transform]]\nname = "topk"\nshare = 0.1\n[strategy]\nname = "{strategy}"\n{options}\n'
    rows = fedjourney.run(config.parse(text), tmp_path / "run").rounds[1:]
    assert all(row["clients"]["counted"] and not row["clients"]["failed"] for row in rows)
