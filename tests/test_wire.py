"""What a message weighs is what its header and values would be, written out."""

import json

import pytest
import torch

from fedjourney.tensors import Tensors
from fedjourney.wire import encoded_size

PARAMS = {
    'ä/"weight"': torch.zeros(3, 4, dtype=torch.bfloat16),
    "scale": torch.zeros((), dtype=torch.float64),
    "none": torch.zeros(0, 2),
    "rows": torch.zeros(7, dtype=torch.int64),
}


@pytest.mark.parametrize("names", [[], ["scale"], list(PARAMS)])
@pytest.mark.parametrize("numbers", [{}, {"loss": 0.1, "num-examples": 12.0, "steps": 3}])
def test_size_is_that_of_the_payload_written_out(names: list[str], numbers: dict[str, float]) -> None:
    tensors: Tensors = {name: PARAMS[name] for name in names}
    described = {name: [str(tensor.dtype)[len("torch.") :], list(tensor.shape)] for name, tensor in tensors.items()}
    header = json.dumps([described, numbers], separators=(",", ":")).encode()
    values = b"".join(bytes(tensor.reshape(-1).view(torch.uint8).tolist()) for tensor in tensors.values())
    assert encoded_size(tensors, numbers) == len(len(header).to_bytes(8, "little") + header + values)
