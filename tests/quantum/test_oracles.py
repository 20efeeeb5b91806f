"""The simulator, the models and their gradients against Cirq and PennyLane; PennyLane's layers as models."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fedjourney
from fedjourney import config, plugins
from fedjourney.plan import plan
from fedjourney.quantum import gates, measuring, spins, states
from fedjourney.seeds import seed_for
from fedjourney.tasks import Signature

pytestmark = [
    pytest.mark.oracles,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs
]
N = 4
ANGLES = np.random.default_rng(0).uniform(-3, 3, size=40)


def as_complex(state: torch.Tensor) -> np.ndarray:
    return state[..., 0].detach().numpy() + 1j * state[..., 1].detach().numpy()


def test_every_gate_is_cirqs() -> None:
    import cirq

    qubits, t = cirq.LineQubit.range(N), torch.from_numpy(ANGLES)
    state, circuit = states.zero_state(N, t), cirq.Circuit(cirq.I.on_each(qubits))

    def both(gate: torch.Tensor, theirs: cirq.Gate, *wires: int) -> None:
        nonlocal state
        state = states.apply(state, gate, wires)
        circuit.append(theirs.on(*[qubits[wire] for wire in wires]))

    for wire in range(N):
        both(gates.H, cirq.H, wire)
        both(gates.rx(t[wire]), cirq.rx(ANGLES[wire]), wire)
        both(gates.ry(t[4 + wire]), cirq.ry(ANGLES[4 + wire]), wire)
        both(gates.rz(t[8 + wire]), cirq.rz(ANGLES[8 + wire]), wire)
    for place, pair in enumerate(((0, 1), (3, 1), (2, 0))):
        both(gates.CNOT, cirq.CNOT, *pair)
        both(gates.CZ, cirq.CZ, *pair)
        both(gates.controlled(gates.rx(t[12 + place])), cirq.ControlledGate(cirq.rx(ANGLES[12 + place])), *pair)
    # U**t counts half-turns, and carries a phase
    both(gates.rx(gates.half_turns(t[20])), cirq.X ** ANGLES[20], 2)
    both(gates.rotation(gates.half_turns(t[21]), "ZZ"), cirq.ZZ ** ANGLES[21], 1, 2)
    found = cirq.Simulator(dtype=np.complex128).simulate(circuit, qubit_order=qubits).final_state_vector
    assert abs(np.vdot(found, as_complex(state))) == pytest.approx(1, abs=1e-12)
    for string, wires in (("Z", [2]), ("XY", [0, 3]), ("ZXZ", [1, 2, 3])):
        term = cirq.PauliString({qubits[w]: getattr(cirq, letter) for letter, w in zip(string, wires, strict=True)})
        theirs = term.expectation_from_state_vector(found, {q: i for i, q in enumerate(qubits)}).real
        assert float(measuring.expectation(state, string, wires)) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("entangler", ["cnot", "cz", "controlled_rx"])
@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_the_circuit_model_is_pennylanes_values_and_gradients(entangler: str, encoding: str) -> None:
    import pennylane as qml

    options = {"qubits": 3, "layers": 2, "entangler": entangler, "encoding": encoding, "readout": "z"}
    table = plugins.resolve("model", {"name": "circuit", **options})
    model = plugins.build("model", table, Signature({"x": (6,)}, {"y": ()}, 3)).double()
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(3))
        model.head.bias.zero_()
    x = torch.from_numpy(np.random.default_rng(1).uniform(0.1, 1, size=(2, 6)))

    @qml.qnode(qml.device("default.qubit", wires=3), interface="torch", diff_method="backprop")
    def theirs(row, angles, couplings):
        if encoding == "amplitude":
            qml.AmplitudeEmbedding(row, wires=range(3), pad_with=0.0, normalize=True)
        for layer in range(2):
            for wire in range(3):
                if encoding == "angle":
                    qml.RY(np.pi * row[3 * layer + wire], wires=wire)
            for wire in range(3):
                qml.U3(*angles[layer, wire], wires=wire)
            for place, pair in enumerate(((0, 1), (1, 2), (2, 0))):
                if entangler == "controlled_rx":
                    qml.CRX(couplings[layer, place], wires=pair)
                else:
                    (qml.CNOT if entangler == "cnot" else qml.CZ)(wires=pair)
        return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]

    angles = model.angles.detach().clone().requires_grad_()
    couplings = torch.zeros(2, 3).double()
    if entangler == "controlled_rx":
        couplings = model.couplings.detach().clone().requires_grad_()
    found = torch.stack([torch.stack(theirs(row, angles, couplings)) for row in x])
    weights = torch.tensor([1.0, -2.0, 0.5]).double()
    (found @ weights).square().sum().backward()
    (model(x) @ weights).square().sum().backward()
    torch.testing.assert_close(model(x), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.angles.grad, angles.grad, rtol=0, atol=1e-11)
    if entangler == "controlled_rx":
        torch.testing.assert_close(model.couplings.grad, couplings.grad, rtol=0, atol=1e-11)


def test_the_convolutional_network_is_that_of_the_tutorial_in_cirq() -> None:
    import cirq

    model = plugins.build(
        "model", plugins.resolve("model", {"name": "qcnn"}), Signature({"state": (256, 2)}, {"label": ()}, 2)
    ).double()
    assert model.convolutions.numel() + model.poolings.numel() == 63
    qubits = cirq.GridQubit.rect(1, 8)

    def one(bit, angles):
        return [(gate ** (a / np.pi))(bit) for gate, a in zip((cirq.X, cirq.Y, cirq.Z), angles, strict=True)]

    def two(bits, a):
        steps = [*one(bits[0], a[0:3]), *one(bits[1], a[3:6])]
        steps += [(gate ** (x / np.pi))(*bits) for gate, x in zip((cirq.ZZ, cirq.YY, cirq.XX), a[6:9], strict=True)]
        return [*steps, *one(bits[0], a[9:12]), *one(bits[1], a[12:])]

    circuit, bits = cirq.Circuit(cirq.I.on_each(qubits)), list(qubits)
    for layer in range(3):
        a, p = model.convolutions[layer].tolist(), model.poolings[layer].tolist()
        for pair in [*zip(bits[0::2], bits[1::2], strict=True), *zip(bits[1::2], bits[2::2] + bits[:1], strict=True)]:
            circuit += two(pair, a)
        half = len(bits) // 2
        for source, sink in zip(bits[:half], bits[half:], strict=True):
            basis = cirq.Circuit(one(sink, p[:3]))
            circuit += [basis, one(source, p[3:]), cirq.CNOT(source, sink), basis**-1]
        bits = bits[half:]
    start = spins.cluster_state(8)
    turned = states.apply(start, gates.rx(torch.tensor(0.8).double()), [3])
    simulator = cirq.Simulator(dtype=np.complex128)
    final = simulator.simulate(circuit, qubit_order=qubits, initial_state=as_complex(turned)).final_state_vector
    places = (np.abs(final) ** 2).reshape(128, 2).sum(0)  # the last qubit is what is left
    assert bits == [qubits[7]]
    logits = model(turned[None])[0] / model.scale
    np.testing.assert_allclose(logits.detach().numpy(), places, atol=1e-12)


SMALL = """
[experiment]
name = "layers"
rounds = 2
cohort = 3
[data]
name = "digits"
[partition]
name = "iid"
clients = 40
[engine]
name = "serial"
"""


@pytest.mark.parametrize(
    "more",
    [
        '[model]\nname = "oracles_torchlayers:MyLayer"\nlayers = 1\n',
        '[model]\nname = "oracles_torchlayers:hybrid"\n',
        '[model]\nname = "oracles_torchlayers:hybrid"\n[strategy]\nname = "open_es"\npopulation = 4\n',
        '[model]\nname = "oracles_torchlayers:hybrid"\n[numerics]\nlanes = 3\n',
    ],
)
def test_a_torch_layer_is_a_model_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    text = SMALL
    if "MyLayer" in more:  # as it is: 3 features in, 3 outputs for 3 classes
        rows = np.random.default_rng(0).normal(size=(200, 3))
        np.savez(tmp_path / "three.npz", x=rows, y=rows.argmax(1))
        text = text.replace('name = "digits"', f'name = "arrays"\npath = "{tmp_path / "three.npz"}"')
    result = fedjourney.run(config.parse(text + more), tmp_path / "run")
    assert not any(row["clients"]["failed"] for row in result.rounds)
    start = plan(config.parse(text + more)).task.init(seed_for(0, "model"))
    assert all(not torch.equal(start[name], tensor) for name, tensor in result.parameters.items())
    again = fedjourney.run(config.parse(text + more), tmp_path / "again")
    assert again.digest == result.digest
