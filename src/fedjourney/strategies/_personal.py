"""What personal strategies share: named parts that stay at home, and who has received them already."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch

from fedjourney.errors import ConfigError
from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors


def check_patterns(strategy: str, patterns: Sequence[str], task: Task) -> None:
    """Refuse patterns that match no tensor, and a choice that leaves nothing to share.

    Raises:
        ConfigError: lists the names there are.
    """
    names = list(task.init(0))
    there = f"The model has: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}."
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f'[strategy] personal: "{pattern}" matches no parameter of the model. {there}')
    if all(stays(name, patterns) for name in names):
        raise ConfigError(
            f'[strategy] personal: {list(patterns)} keeps every parameter at home, so "{strategy}" would share '
            f"nothing. Name fewer, or take local_only. {there}"
        )


def stays(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a tensor is personal: its name matches one of the patterns (`*`, `?`, `[…]`, case counts)."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def first_rows(setting: Setting, state: Tensors, clients: Sequence[int], start: Tensors) -> list[Tensors]:
    """Return what each client alone receives: `start` for those never heard of yet, nothing for the others.

    Those whose reply was lost are given it again, since what they kept does not count either.
    """
    met = state.get("met", torch.zeros(setting.clients, dtype=torch.bool))
    return [{} if bool(met[client]) else start for client in clients]


def note(setting: Setting, state: Tensors, cohort: Cohort) -> None:
    """Remember whose replies counted."""
    met = state.get("met", torch.zeros(setting.clients, dtype=torch.bool)).clone()
    met[torch.tensor(cohort.clients, dtype=torch.int64)] = True
    state["met"] = met


class SharedPart(Rounds):
    """A strategy over some tensors; those whose names match a pattern stay at home, sent once to begin from."""

    def __init__(self, setting: Setting, personal: list[str]) -> None:
        super().__init__()
        self.setting, self.personal = setting, personal

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Everyone gets the shared tensors; newcomers also what their own begin from."""
        own = {name: tensor for name, tensor in params.items() if stays(name, self.personal)}
        shared = {name: tensor for name, tensor in params.items() if name not in own}
        return Ask(shared, clients, first_rows(self.setting, self.state, clients, own))

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is an update of the shared tensors."""
        return {f"update/{name}": tensor for name, tensor in params.items() if not stays(name, self.personal)}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update of the shared tensors."""
        assert cohort.tensors is not None
        note(self.setting, self.state, cohort)
        change = update_of(cohort.tensors)
        return {name: tensor + change[name] if name in change else tensor for name, tensor in params.items()}
