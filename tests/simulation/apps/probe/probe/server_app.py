from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


def messages(grid, kind, **options):
    content = RecordDict({"c": ConfigRecord({"value": 1})})
    return [Message(content, node, kind, **options) for node in grid.get_node_ids()]


def show(replies):
    for reply in replies:
        told = reply.metadata
        said = dict(reply.content["said"]) if reply.has_content() else (reply.error.code, reply.error.reason)
        mod = reply.has_content() and dict(reply.content["mod"])
        print("reply", told.message_type, told.group_id, said, mod)


@app.main()
def main(grid: Grid, context: Context) -> None:
    globals()[context.run_config["do"]](grid, context)


def state(grid, context):
    for _ in range(3):
        show(grid.send_and_receive(messages(grid, "train", group_id="g")))
    show(grid.send_and_receive(messages(grid, "train.change")))
    sent = messages(grid, "query")
    show(grid.send_and_receive(sent))
    print("the server's own content", sent[0].content["c"]["value"])
    show(grid.send_and_receive(messages(grid, "train.missing")))


def pull(grid, context):
    sent = messages(grid, "query.slow")
    names = list(grid.push_messages(sent))
    assert [message.metadata.message_id for message in sent] == names
    pulls, replies, waiting = [], [], set(names)
    while waiting:
        got = list(grid.pull_messages(waiting))
        pulls.append(len(got))
        waiting -= {reply.metadata.reply_to_message_id for reply in got}
        replies += got
    assert all(reply.metadata.message_id for reply in replies)
    assert {reply.metadata.dst_node_id for reply in replies} == {1}
    show(sorted(replies, key=lambda reply: reply.content["said"]["partition"]))
    print("not all at once", max(pulls) < len(names))
    (again,) = grid.pull_messages(names[:1])
    print("again", again.error.code)
    print("unknown node", list(grid.push_messages([Message(RecordDict(), 7, "query")])))


def late(grid, context):
    while len({reply.content["said"]["pid"] for reply in grid.send_and_receive(messages(grid, "query.pid"))}) < 2:
        pass  # until both workers are up
    replies = list(grid.send_and_receive(messages(grid, "query.slow"), timeout=0.3))
    print("in time", [reply.content["said"]["partition"] for reply in replies])
    show(grid.send_and_receive(messages(grid, "query.slow")))
    replies = list(grid.send_and_receive(messages(grid, "query.slow", ttl=0.3)))
    print("expired", [reply.error.code if reply.has_error() else "good" for reply in replies])


def failing(grid, context):
    for kind in ("evaluate", "evaluate", "evaluate.exit", "evaluate.nothing"):
        show(grid.send_and_receive(messages(grid, kind)))


def all_fail(grid, context):
    list(grid.send_and_receive(messages(grid, "evaluate.exit")))


def dying(grid, context):
    show(grid.send_and_receive(messages(grid, "train")))
    show(grid.send_and_receive(messages(grid, "train.die")))
    show(grid.send_and_receive(messages(grid, "train")))


def hang(grid, context):
    list(grid.send_and_receive(messages(grid, "train.hang")))


def stop(grid, context):
    show(grid.send_and_receive(messages(grid, "query.breakpoint")[:1]))


def fail(grid, context):
    list(grid.send_and_receive(messages(grid, "query")))
    raise OSError("the server's disk is full")


def streams(grid, context):
    show(grid.send_and_receive(messages(grid, "query.streams")))
    show(grid.send_and_receive(messages(grid, "query.base")))


def leave(grid, context):
    raise SystemExit(context.run_config["folder"] or 0)
