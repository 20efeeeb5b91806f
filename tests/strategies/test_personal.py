"""Personal strategies: what stays at home, what travels, and which model is whose."""

from pathlib import Path

import pytest
import torch
from quadratic import Federation, alike, flat, unlike

import fedjourney
from fedjourney import config
from fedjourney.errors import ConfigError
from fedjourney.wire import encoded_size

SGD = {"name": "sgd", "learning_rate": 0.1}


def models(name: str, rounds: int = 4, update: dict[str, object] = SGD, **options: object) -> list[torch.Tensor]:
    return Federation(name, options, unlike(5), 5, update=update).run(rounds).models()


def test_ditto_untied_and_apfl_unmixed_are_local_only_to_the_bit() -> None:
    update = SGD | {"momentum": 0.5}
    alone = models("local_only", update=update)
    untied = models("ditto", update=update, tie=0.0)
    unmixed = models("apfl", update=update, mixture=1.0, mixture_learning_rate=0.0)
    for mine, ditto, apfl in zip(alone, untied, unmixed, strict=True):
        assert torch.equal(mine, ditto)
        assert torch.equal(mine, apfl)


def test_local_only_is_plain_descent_over_rounds_without_a_byte_of_model() -> None:
    run = Federation("local_only", {}, unlike(5), 5, update=SGD)
    begins = [len(row) for row in run.rounds.ask(1, run.params, range(5)).rows or []]
    run.run(3)
    ask = run.rounds.ask(4, run.params, range(5))
    assert begins == [2] * 5
    assert ask.shared == {}
    assert ask.rows == [{}] * 5
    for model, shard in zip(run.models(), run.shards, strict=True):
        a, b = shard.x["a"][0], shard.x["b"][0]
        expected = b + (1 - 0.1 * a) ** 12 * (3.0 - b)  # 3 rounds of 4 steps on a quadratic
        torch.testing.assert_close(model, expected, rtol=0, atol=1e-12)


def test_who_was_lost_is_given_the_start_again() -> None:
    run = Federation("local_only", {}, alike(6), 6, update=SGD, lost=0.5).run(1)
    rows = run.rounds.ask(2, run.params, range(6)).rows or []
    assert {index for index, row in enumerate(rows) if not row} == set(run.states)
    assert 0 < len(run.states) < 6


def test_dittos_and_apfls_shared_model_is_fedavgs_to_the_bit() -> None:
    plain = Federation("fedavg", {}, unlike(5), 3, update=SGD).run(4)
    for name in ("ditto", "apfl"):
        run = Federation(name, {}, unlike(5), 3, update=SGD).run(4)
        assert torch.equal(flat(run.params), flat(plain.params))


def test_dittos_own_model_minimises_its_tied_loss() -> None:
    tie, shards = 1.5, unlike(3)
    run = Federation("ditto", {"tie": tie}, shards, 3, update=SGD | {"epochs": 60})
    run.run(1)
    start = flat(run.task.init(0))
    for model, shard in zip(run.models(), shards, strict=True):
        a, b = shard.x["a"][0], shard.x["b"][0]
        torch.testing.assert_close(model, (a * b + tie * start) / (a + tie), rtol=0, atol=1e-9)


def test_apfl_without_own_weight_is_fedavg() -> None:
    run = Federation("apfl", {"mixture": 0.0, "mixture_learning_rate": 0.0}, unlike(5), 5, update=SGD).run(4)
    for model in run.models():
        assert torch.equal(model, flat(run.params))


def test_apfls_steps_and_mixture_are_the_written_out_formulas() -> None:
    shards, alpha, rate = unlike(2, examples=1), 0.3, 0.01
    run = Federation("apfl", {"mixture": alpha, "mixture_learning_rate": rate}, shards, 2, update=SGD)
    w = flat(run.params)
    own, mix = [w.clone(), w.clone()], [alpha, alpha]
    for number in (1, 2, 3):
        run.step(number)
        moved = []
        for i, shard in enumerate(shards):
            a, b = shard.x["a"][0], shard.x["b"][0]
            slope = a * (mix[i] * own[i] + (1 - mix[i]) * w - b)
            product = float(((own[i] - w) * slope).sum())
            own[i] = own[i] - 0.1 * mix[i] * slope
            moved.append(-0.1 * a * (w - b))
            mix[i] = min(max(mix[i] - rate * product, 0.0), 1.0)
        w = w + (moved[0] + moved[1]) / 2
        for i in range(2):
            torch.testing.assert_close(run.models()[i], mix[i] * own[i] + (1 - mix[i]) * w, rtol=0, atol=1e-12)
    assert mix != [alpha, alpha]


def test_fedper_sends_the_shared_tensors_only_and_finds_both_optima() -> None:
    quick = SGD | {"learning_rate": 0.5, "epochs": 2}
    run = Federation("fedper", {"personal": ["h*"]}, unlike(4), 4, update=quick)
    first = run.rounds.ask(1, run.params, range(4))
    assert list(first.shared) == ["body"]
    assert [list(row) for row in first.rows or []] == [["head"]] * 4
    run.run(10)
    again = run.rounds.ask(11, run.params, range(4))
    assert again.rows == [{}] * 4
    for index, model in enumerate(run.models()):
        torch.testing.assert_close(model[3:], run.shards[index].x["b"][0][3:], rtol=0, atol=1e-2)
        assert torch.equal(model[:3], run.params["body"])
    plain = Federation("fedavg", {}, unlike(4), 4, update=quick).run(10)
    torch.testing.assert_close(run.params["body"], plain.params["body"], rtol=0, atol=1e-12)


def test_fedrep_trains_the_head_first_with_the_body_frozen() -> None:
    momentum = SGD | {"momentum": 0.5, "weight_decay": 0.1}
    run = Federation("fedrep", {"personal": ["head"], "head_epochs": 3}, unlike(3), 3, update=momentum).run(1)
    other = Federation("fedper", {"personal": ["head"]}, unlike(3), 3, update=momentum | {"epochs": 3}).run(1)
    plain = Federation("fedper", {"personal": ["head"]}, unlike(3), 3, update=momentum).run(1)
    # a quadratic without cross terms: the head after three passes of its own, the body after one
    for index in range(3):
        torch.testing.assert_close(run.models()[index][3:], other.models()[index][3:], rtol=0, atol=1e-12)
        torch.testing.assert_close(run.models()[index][:3], plain.models()[index][:3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["fedper", "fedrep"])
@pytest.mark.parametrize(
    ("patterns", "said"), [(["tail*"], '"tail*" matches no parameter'), (["*"], "keeps every parameter at home")]
)
def test_patterns_that_make_no_sense_are_refused(name: str, patterns: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Federation(name, {"personal": patterns}, alike(3), 3)
    assert said in str(error.value)
    assert "body, head" in str(error.value)


def test_personal_models_are_evaluated_beside_the_shared_one(small: str, tmp_path: Path) -> None:
    text = (
        small.replace("cohort = 4", "cohort = 8\nevaluate_every = 0")
        .replace("rounds = 4", "rounds = 3")
        .replace("alpha = 0.5", "alpha = 0.1")
    )
    text += '[update]\nname = "sgd"\nepochs = 2\n[strategy]\nname = '
    alone = fedjourney.run(config.parse(f'{text}"local_only"\n'), tmp_path / "a")
    tied = fedjourney.run(config.parse(f'{text}"ditto"\n'), tmp_path / "b")
    heads = fedjourney.run(config.parse(f'{text}"fedper"\npersonal = ["3.*"]\n'), tmp_path / "c")
    for result in (alone, tied, heads):
        found = result.rounds[-1]["evaluation"]
        assert found["personal/accuracy"]["mean"] > found["accuracy"]["mean"]
    model = encoded_size(alone.parameters)
    assert alone.rounds[1]["bytes_down"] >= 8 * model
    assert alone.rounds[2]["bytes_down"] < 8 * 40  # empty headers
    assert all(row["bytes_up"] < 8 * 100 for row in alone.rounds[1:])
    assert heads.rounds[2]["bytes_down"] < tied.rounds[2]["bytes_down"]
    assert torch.equal(heads.parameters["3.weight"], alone.parameters["3.weight"])  # never left home
