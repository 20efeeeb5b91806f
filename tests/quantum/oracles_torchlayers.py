"""PennyLane's layers as somebody may bring them, named in configs as "oracles_torchlayers:Name"."""

import pennylane as qml
import torch

_device = qml.device("default.qubit", wires=3)


@qml.qnode(_device, interface="torch", diff_method="backprop")
def _node(inputs, weights):
    qml.AngleEmbedding(inputs, wires=range(3), rotation="Y")
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]


class MyLayer(qml.qnn.TorchLayer):
    """A TorchLayer and nothing else: as many outputs as classes."""

    def __init__(self, signature, /, *, layers: int = 2):
        super().__init__(_node, {"weights": (layers, 3, 3)})


def hybrid(signature, /, *, layers: int = 1):
    """A TorchLayer between two classical layers."""
    layer = qml.qnn.TorchLayer(_node, {"weights": (layers, 3, 3)})
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(signature.features, 3), layer, torch.nn.Linear(3, signature.classes)
    )
