"""Exchanges as Flower messages: what is sent is what comes back, and a reply of any form costs that reply alone."""

import torch
from flwr.app import ConfigRecord, Message, RecordDict

from fedjourney import config, messages
from fedjourney.exchange import Answer, Exchange
from fedjourney.flower_private import ensure_identity
from fedjourney.network import Network
from fedjourney.plan import plan


def test_tensors_keep_names_order_shapes_and_bits() -> None:
    tensors = {"b": torch.tensor(2.5), "a": torch.arange(6.0).view(2, 3).mT, "c": torch.tensor([], dtype=torch.int32)}
    again = messages.to_tensors(messages.to_arrays(tensors))
    assert list(again) == list(tensors)
    assert all(torch.equal(again[n], t) and again[n].shape == t.shape for n, t in tensors.items())


def test_malformed_and_missing_replies_cost_themselves_alone(small: str) -> None:
    ensure_identity()
    built = plan(config.parse(small))
    params = built.task.init(0)
    like = built.rounds.like(params)
    network = Network(built, {0: 11, 1: 11, 2: 12}, {"run": "x"})
    sent = network.send(Exchange("train", 1, "train", params, [0, 1, 2, 3], [-1] * 4, [], like))
    assert [message.metadata.dst_node_id for message in sent] == [11, 12]
    good = Answer(0, {name: torch.zeros_like(tensor) for name, tensor in like.items()}, {"num-examples": 3.0})
    content = messages.write_answers([good])
    content["config/1"] = ConfigRecord({"kept": False})  # without metrics and arrays
    content["config/2"] = ConfigRecord({"kept": False})  # of a client that another node holds
    replies = [Message(content, reply_to=sent[0]), Message(RecordDict(), reply_to=sent[1])]
    answers = [answer for block in network.receive(replies) for answer in block.answers]
    assert [answer.client for answer in answers] == [0, 1, 2, 3]
    assert [answer.problem.kind if answer.problem else "" for answer in answers] == ["", "malformed", "lost", "lost"]
    assert list(network.receive([])) == []  # a round that evaluates nothing sends nothing, and misses nothing
