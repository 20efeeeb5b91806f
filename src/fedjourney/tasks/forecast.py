"""Forecasting."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le

from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import Prediction
from fedjourney.tensors import Tensors

SHOWN = 4  # forecasts in the picture
PICTURE = (96, 480)  # its height for each of them, and its width, in pixels
PAST, TRUE, FORECAST = (120, 120, 120), (42, 120, 214), (235, 104, 52)  # grey, blue, orange


class _Forecast(Prediction):
    """Squared error of what comes next [B, h], seen from the last value of the window [B, T]."""

    period: int

    def outputs(self, params: Tensors, x: Tensors, key: torch.Tensor | None = None) -> torch.Tensor:
        """Return forecasts [B, h]: the window's last value, and the change from it that the model puts out."""
        (name, past), *_ = x.items()
        last = past[:, -1:].to(self.dtype)
        return last + super().outputs(params, {name: past.to(self.dtype) - last}, key)

    def losses(self, outputs: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return the mean squared error [B] over the values forecast."""
        return (outputs - next(iter(y.values()))).square().mean(1)

    def block_sums(self, outputs: torch.Tensor, y: Tensors) -> Tensors:
        """Return `model` (squared errors) and `examples`."""
        losses = self.losses(outputs.double(), y)
        return {"model": losses.sum(), "examples": torch.tensor(float(len(losses)), dtype=torch.float64)}

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return the model's squared errors and, on the same windows, those of forecasts that learn nothing."""
        past, future = next(iter(shard.x.values())).double(), next(iter(shard.y.values())).double()
        sums = super().evaluate(params, shard)
        naive = naive_forecasts(past, future.shape[1], self.period)
        return sums | {name: (forecast - future).square().mean(1).sum() for name, forecast in naive.items()}

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `rmse`, `loss` = its square, and `rmse_last_value`, `rmse_drift` and so on."""
        count = float(sums["examples"])
        if count == 0:
            return {}
        mean = {name: float(total) / count for name, total in sums.items() if name != "examples"}
        naive = {f"rmse_{name}": value**0.5 for name, value in mean.items() if name != "model"}
        return {"rmse": mean["model"] ** 0.5, "loss": mean["model"], **naive}

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return a picture of forecasts of test windows, spread over the test set."""
        if not len(examples):
            return {}
        places = torch.tensor(sorted({(2 * n + 1) * len(examples) // (2 * SHOWN) for n in range(SHOWN)}))
        some = examples.take(places)
        past, future = next(iter(some.x.values())), next(iter(some.y.values()))
        with torch.no_grad():
            forecast = self.outputs(params, some.x)
        rows = [drawn(*(t.double().numpy() for t in three)) for three in zip(past, future, forecast, strict=True)]
        return {"what was (grey), what came (blue), what was forecast (orange)": np.concatenate(rows)}


def naive_forecasts(past: torch.Tensor, horizon: int, period: int) -> Tensors:
    """Return forecasts [n, horizon] that learn nothing, from windows [n, T].

    `last_value` repeats it; `drift` goes on along the line from the window's first to its last value, `last_change`
    along that of the last two; `seasonal`, where there is a period, repeats the last one (Hyndman and Athanasopoulos
    2021, Forecasting: Principles and Practice, section 5.2).

    >>> {name: one.tolist()[0] for name, one in naive_forecasts(torch.tensor([[1.0, 5.0, 2.0]]), 2, 2).items()}
    {'last_value': [2.0, 2.0], 'drift': [2.5, 3.0], 'last_change': [-1.0, -4.0], 'seasonal': [5.0, 2.0]}
    """
    first, last, ahead = past[:, :1], past[:, -1:], torch.arange(1, horizon + 1)
    found = {
        "last_value": last.expand(-1, horizon),
        "drift": last + ahead * (last - first) / (past.shape[1] - 1),
        "last_change": last + ahead * (last - past[:, -2:-1]),
    }
    if period:
        found["seasonal"] = past[:, past.shape[1] - period + (ahead - 1) % period]
    return found


def drawn(past: np.ndarray, future: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Return a picture [height, width, 3] uint8 of one window [T], what followed [h], and the forecast [h]."""
    height, width = PICTURE
    begins = ((past, 0, PAST), (future, len(past) - 1, TRUE), (forecast, len(past) - 1, FORECAST))
    lines = [(line, begin, colour) for line, begin, colour in begins if np.isfinite(line).all()]
    low, high = min(line.min() for line, *_ in lines), max(line.max() for line, *_ in lines)
    picture = np.full((height, width, 3), 255, dtype=np.uint8)
    times = np.arange(len(past) + len(future))
    across = np.linspace(0, times[-1], 8 * width)  # drawn finer than pixels, so that steep lines have no gaps
    for line, begin, colour in lines:
        line = line if begin == 0 else np.concatenate([past[-1:], line])
        inside = across[(across >= begin) & (across <= begin + len(line) - 1)]
        values = np.interp(inside, times[begin : begin + len(line)], line)
        down = (height - 5) - (values - low) / max(high - low, 1e-12) * (height - 10)
        at = (inside / times[-1] * (width - 2)).astype(int)
        for right in (0, 1):
            picture[down.astype(int), at + right] = picture[down.astype(int) + 1, at + right] = colour
    picture[-1] = 220
    return picture


def forecast(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 10,
    period: Annotated[int, Ge(0), Le(10_000)] = 0,
) -> Task:
    """The next values of a series from a window of it; squared error, RMSE beside forecasts that learn nothing.

    Args:
        make_model: builds the model: windows [B, T] in, `horizon` numbers out.
        signature: windows [T], targets [horizon].
        dtype: of parameters.
        batch_size: windows per local step.
        period: values after which a series repeats itself (12 for months in a year), for the seasonal naive forecast;
            0 = there is none.
    """
    shapes = [*signature.inputs.values(), *signature.outputs.values()]
    window, ahead = (shape[0] for shape in shapes) if [len(shape) for shape in shapes] == [1, 1] else (0, 0)
    if not window or not ahead or signature.classes != ahead:
        raise ConfigError(
            "[task] forecast expects windows [steps] and what follows them [steps], got examples of shape "
            f"{[list(shape) for shape in (*signature.inputs.values(), *signature.outputs.values())]}. "
            'Take [data] "series".'
        )
    if period > window:
        raise ConfigError(
            f"[task] period: expected at most the window of {window} values, got {period}. "
            "Lower it, or raise [data] window."
        )
    task = _Forecast(make_model, signature, batch_size, dtype)
    task.period = period
    return task
