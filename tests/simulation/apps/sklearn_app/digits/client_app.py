import warnings

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    x, y = load_digits(return_X_y=True)
    mine = np.arange(len(y)) % context.node_config["num-partitions"] == context.node_config["partition-id"]
    model = LogisticRegression(max_iter=5, warm_start=True, solver="saga")
    model.coef_, model.intercept_ = message.content["arrays"].to_numpy_ndarrays()
    model.classes_ = np.arange(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[mine] / 16, y[mine])
    metrics = MetricRecord({"accuracy": float(model.score(x / 16, y)), "num-examples": int(mine.sum())})
    arrays = ArrayRecord([model.coef_, model.intercept_])
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
