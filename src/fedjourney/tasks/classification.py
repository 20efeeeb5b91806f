"""Classification."""

from typing import Annotated

import torch
from annotated_types import Ge, Le

from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import CrossEntropy


def classification(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 10,
    steps: Annotated[int, Ge(0), Le(1_000_000_000)] = 0,
) -> Task:
    """One label per example; cross-entropy, accuracy.

    Args:
        make_model: builds the model.
        signature: one target without further dimensions.
        dtype: of parameters.
        batch_size: examples per local step (McMahan's B); the last batch of a pass may be smaller.
        steps: batches in a pass, 0 = all of the shard; then clients with unequal shards take equal steps.
    """
    shape = next(iter(signature.outputs.values()))
    if shape != ():
        raise ConfigError(
            f"[task] classification expects one label per example, got targets of shape {list(shape)}. "
            "For text take next_character."
        )
    return CrossEntropy(make_model, signature, batch_size, dtype, steps)
