"""Learning a function within the forward pass."""

from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le

from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import Prediction
from fedjourney.tensors import Tensors

TOLD = (0, 1, 2, 5, 10, 20, 50, 100)
"""After how many pairs the error is told, besides after all of them."""


class _InContext(Prediction):
    """Squared error of the prediction at every step of a sequence [B, T], the mean over steps as loss."""

    def outputs(self, params: Tensors, x: Tensors, key: torch.Tensor | None = None) -> torch.Tensor:
        """Return predictions [B, T]."""
        return super().outputs(params, x, key).squeeze(-1)

    def losses(self, outputs: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return the squared error [B], averaged over steps."""
        return (outputs - y["value"].to(outputs.dtype)).square().mean(1)

    def block_sums(self, outputs: torch.Tensor, y: Tensors) -> Tensors:
        """Return squared errors by step [T], of the model, of the best predictor and of 0, and `examples`."""
        value = y["value"].double()
        predicted = {"model": outputs.double(), "bayes": y["bayes"].double(), "zero": torch.zeros_like(value)}
        sums = {name: (one - value).square().sum(0) for name, one in predicted.items()}
        return sums | {"examples": torch.tensor(float(len(value)), dtype=torch.float64)}

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `rmse` after all pairs, that of the best predictor, that of saying 0, `loss`, and `rmse_after_…`."""
        count = float(sums["examples"])
        if count == 0:
            return {}
        root = {name: (total / count).sqrt().tolist() for name, total in sums.items() if name != "examples"}
        told = {"rmse": root["model"][-1], "bayes_rmse": root["bayes"][-1], "zero_rmse": root["zero"][-1]}
        told["loss"] = float(sums["model"].mean()) / count
        for shots in (shots for shots in TOLD if shots < len(root["model"]) - 1):
            told |= {f"{kind}rmse_after_{shots}": root[name][shots] for kind, name in _KINDS.items()}
        return told

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return the error after each number of pairs, beside that of the best predictor."""
        if not len(examples):
            return {}
        sums = self.evaluate(params, examples)
        count = float(sums["examples"])
        lines = [f"{'pairs seen':>10}{'learned':>10}{'Bayes':>10}{'zero':>10}"]
        columns = [(sums[name] / count).sqrt() for name in ("model", "bayes", "zero")]
        for shots, errors in enumerate(zip(*columns, strict=True)):
            lines.append(f"{shots:10}" + "".join(f"{float(error):10.4f}" for error in errors))
        return {"root mean squared error on new functions": "\n".join(lines)}


_KINDS = {"": "model", "bayes_": "bayes"}


def in_context(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 10,
) -> Task:
    """A function is learned by reading it: each step of a sequence predicts y from x and the pairs before it.

    Weights are what all functions share; what is learned of one function is the hidden state, and no gradient is taken
    for it. The error after k pairs stands beside that of the best of all predictors, which knows how functions are
    drawn.

    Args:
        make_model: builds a model that answers at every step of a sequence.
        signature: sequences [T, F], targets `value` and `bayes` [T].
        dtype: of parameters.
        batch_size: sequences per local step.

    References: Hochreiter, Younger and Conwell 2001, Learning to Learn Using Gradient Descent; Garg et al. 2022, What
    Can Transformers Learn In-Context?, https://arxiv.org/abs/2208.01066 (the task, with a transformer).
    """
    shape = next(iter(signature.inputs.values()))
    if set(signature.outputs) != {"value", "bayes"} or len(shape) != 2:
        raise ConfigError(
            f"[task] in_context expects sequences of pairs, got targets {', '.join(signature.outputs)}. "
            'Take [data] name = "functions".'
        )
    task = _InContext(partial(make_model, replace(signature, classes=1)), signature, batch_size, dtype)
    got: list[int] | str
    try:
        got = list(task.outputs(task.init(0), {"pairs": torch.zeros(2, *shape)}).shape)
    except RuntimeError as error:  # shapes that do not fit
        got = str(error)
    if got != [2, shape[0]]:
        raise ConfigError(
            f"[model] in_context expects an answer at each of {shape[0]} steps, got {got} for 2 sequences. "
            'Take [model] name = "gru" with answers = "every".'
        )
    return task
