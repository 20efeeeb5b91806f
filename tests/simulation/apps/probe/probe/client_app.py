import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp


def loud(message, context, call_next):
    print("mod before", message.metadata.message_type)
    reply = call_next(message, context)
    reply.content["mod"] = ConfigRecord({"seen": True})
    return reply


app = ClientApp(mods=[loud])


@app.lifespan()
def lifespan(context: Context):
    print("lifespan in")
    yield
    print("lifespan out")


def says(message, **values):
    return Message(RecordDict({"said": ConfigRecord(values)}), reply_to=message)


@app.train()
def count(message: Message, context: Context) -> Message:
    counter = context.state.setdefault("counter", MetricRecord({"count": 0}))
    counter["count"] += 1
    draw = f"{random.random()} {np.random.random()}"
    return says(message, count=counter["count"], draw=draw, node=context.node_id)


@app.train("change")
def change(message: Message, context: Context) -> Message:
    message.content["c"]["value"] = 99
    context.state["changed"] = MetricRecord({"x": 1})
    raise ValueError("after a change")


@app.query()
def query(message: Message, context: Context) -> Message:
    return says(message, partition=context.node_config["partition-id"], state=sorted(context.state))


@app.query("pid")
def pid(message: Message, context: Context) -> Message:
    time.sleep(0.02)
    return says(message, pid=os.getpid())


@app.query("slow")
def slow(message: Message, context: Context) -> Message:
    time.sleep(0.6 if context.node_config["partition-id"] == 0 else 0)
    return says(message, partition=context.node_config["partition-id"])


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    partition = context.node_config["partition-id"]
    if partition % 2:
        raise RuntimeError(f"partition {partition} has no data")
    return says(message, partition=partition)


@app.evaluate("exit")
def leave(message: Message, context: Context) -> Message:
    sys.exit(3)


@app.evaluate("nothing")
def nothing(message: Message, context: Context) -> Message:
    return None


@app.train("die")
def die(message: Message, context: Context) -> Message:
    """Partition 0 kills its worker always, partition 1 once; it had counted before."""
    partition, folder = context.node_config["partition-id"], Path(context.run_config["folder"])
    first = folder / f"died-{partition}"
    if partition == 0 or (partition == 1 and not first.exists()):
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    counter = context.state["counter"]
    counter["count"] += 1
    return says(message, count=counter["count"])


@app.train("hang")
def hang(message: Message, context: Context) -> Message:
    Path(context.run_config["folder"], f"pid-{os.getpid()}").touch()
    time.sleep(60)
    return says(message)


@app.query("breakpoint")
def stop(message: Message, context: Context) -> Message:
    breakpoint()
    return says(message)


class Unprintable(BaseException):
    def __str__(self):
        raise RuntimeError("no text")


@app.query("streams")
def streams(message: Message, context: Context) -> Message:
    sys.stdout.reconfigure(line_buffering=True)
    sys.stdout.buffer.write(f"bytes of {context.node_config['partition-id']}\n".encode())
    sys.stdout.flush()
    return says(message, done=1)


@app.query("base")
def base(message: Message, context: Context) -> Message:
    raise Unprintable
