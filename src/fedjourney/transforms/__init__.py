"""Transforms of the `"update/"` group on its way up. One plug-in per file; several in a row, undone in reverse."""

from typing import Protocol

from fedjourney.tensors import Tensors


class Transform(Protocol):
    """Client half and server half of one change to an update; what it encodes is what is charged."""

    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Return (what travels, new client state); runs on the client."""

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """Return the update from what travelled; runs where the fold runs."""
