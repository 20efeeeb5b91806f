"""Plug-ins as somebody else may write them, named in configs as `"foreign:name"`."""

import numpy as np
from torch import nn


def overlapping(columns, num_examples, seed, /):
    return [np.arange(3), np.arange(2, 5)]


def beyond(columns, num_examples, seed, /):
    return [np.arange(num_examples + 1)]


def fractions(columns, num_examples, seed, /):
    return [np.array([0.5, 1.5])]


def nobody(columns, num_examples, seed, /):
    return []


def not_shards(columns, num_examples, seed, /):
    return 7


def no_data(source, /):
    return None


def optional(columns, num_examples, seed, /, *, most: int | None = None, anything=3):
    return [np.arange(num_examples)[:most]]


def unknown_annotation(columns, num_examples, seed, /, *, x: "NoSuchType" = 1):  # noqa: F821
    return [np.arange(num_examples)]


def huge(signature, /):
    return nn.Sequential(nn.Flatten(), nn.Linear(signature.features, 10**13))
