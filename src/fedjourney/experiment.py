"""THE MAIN PATH, read this first: an experiment, a Flower grid, a run folder.

load → plan (data, shards, task, strategy) → engine → serve: Flower's `Strategy.start` → records, digest
"""

import json
import logging
import time
from collections.abc import Callable, Container
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid

from fedjourney import config, exhibit, facts, plugins, results, run_folder, storage
from fedjourney.config import Experiment
from fedjourney.engines import InProcessGrid, Where
from fedjourney.errors import ConfigError, FedjourneyError, Interrupted, RunError
from fedjourney.exchange import added, evaluation_blocks
from fedjourney.fast import choose
from fedjourney.flower import NOTHING, FlowerStrategy, RoundRecord, Transport
from fedjourney.flower_private import quiet
from fedjourney.network import Network, roll_call
from fedjourney.plan import Plan, plan
from fedjourney.results import Recorder, Result
from fedjourney.storage import write_atomically
from fedjourney.tensors import Tensors

Watch = Callable[[dict[str, Any]], None]


def run(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    watch: Watch | None = None,
    fast: bool = False,
) -> Result:
    """Run an experiment from its beginning.

    Args:
        experiment: from `load`.
        out: the run's folder, new or empty; default `runs/<name>-<time>`.
        data_dir: root of data sets, looked at first (default: FEDJOURNEY_DATA).
        watch: called after every round with its row of `rounds.jsonl`.
        fast: measure lanes and compilation on this machine first (see `fedjourney.fast`), and take the fastest.

    Raises:
        FedjourneyError: the experiment, its data or its folder cannot be used, before any work; or, once it runs, the
            engine or the disk fails.
    """
    built = plan(experiment, _root(data_dir))
    if fast:
        built = choose(built, _root(data_dir))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = Path(out) if out is not None else _unused(Path("runs") / f"{experiment['experiment']['name']}-{stamp}")
    engine, where = _engine(built, folder, _root(data_dir))
    run_folder.create(folder, built, _root(data_dir))
    if built.personal and not experiment["experiment"]["holdout"]:
        name = experiment["strategy"]["name"]
        logging.getLogger("fedjourney").warning(
            f'[experiment] holdout is 0: the models that clients have of their own by "{name}" '
            "are not evaluated, and what is told is the shared model. Set holdout to a share of each shard, as 0.2."
        )
    return _compute(built, engine, folder, where, watch, new=True)


def resume(folder: str | Path, *, data_dir: str | Path | None = None, watch: Watch | None = None) -> Result:
    """Go on with a run that was interrupted, to the same bits as if it never had been.

    Raises:
        FedjourneyError: no run is there, or its configuration or data have changed.
    """
    folder = Path(folder)
    experiment, root = run_folder.experiment_of(folder), _root(data_dir or run_folder.told(folder)["data_dir"])
    built = plan(experiment, root)
    engine, where = _engine(built, folder, root)
    return _compute(built, engine, folder, where, watch)


def compute(built: Plan, folder: Path, *, data_root: Path | None = None, watch: Watch | None = None) -> Result:
    """Run what is planned already into a folder: from the beginning, or on from where the folder stands.

    Raises:
        FedjourneyError: the folder holds another experiment, or cannot be used.
    """
    engine, where = _engine(built, folder, data_root)
    if not (folder / "experiment.toml").is_file():
        run_folder.create(folder, built, data_root)
    return _compute(built, engine, folder, where, watch)


def _engine(built: Plan, folder: Path, data_root: Path | None) -> tuple[Any, Where]:
    """Return the engine that the experiment names, not yet started, and where its clients find their things."""
    where = Where(data_root, (folder / "state").resolve())
    engine = plugins.build("engine", built.experiment["engine"], built, where)
    if not isinstance(engine, InProcessGrid):
        _refuse_pooled(built)
    return engine, where


def _refuse_pooled(built: Plan) -> None:
    """Refuse, on Flower's own runtimes, a strategy that needs all examples in one place.

    Raises:
        ConfigError: it does.
    """
    if built.rounds.pooled:
        raise ConfigError(
            f'{built.experiment.where}[strategy] "{built.experiment["strategy"]["name"]}" trains on everybody\'s '
            "examples in one place, which clients on separate machines do not have. Take [engine] serial, local or "
            "ray, or another strategy."
        )


def _compute(built: Plan, engine: Any, folder: Path, where: Where, watch: Watch | None, new: bool = False) -> Result:
    """Compute on an engine; where that cannot be started nothing is left of a new run."""
    try:
        if not isinstance(engine, InProcessGrid):
            engine(folder)  # a runtime of its own: it runs the server's door, which serves into `folder`
            return _reread(folder)
        with ExitStack() as stack:
            try:
                grid = stack.enter_context(engine)
            except FedjourneyError:
                if new:
                    run_folder.forget(folder)
                raise
            return serve(built, grid, folder, where, watch)
    except (KeyboardInterrupt, BrokenPipeError):  # nobody reads what `watch` prints any more
        raise Interrupted(folder) from None


def serve(built: Plan, grid: Grid, folder: Path, where: Where, watch: Watch | None = None) -> Result:
    """Coordinate all rounds over a grid, Flower's or ours; new or resumed is decided by the folder."""
    experiment = built.experiment
    timeout = experiment["experiment"]["timeout"]
    with built.numerics.on_server.applied(), quiet(), run_folder.locked(folder):
        start = run_folder.begin(built, folder)
        if run_folder.told(folder)["finished"]:
            return _reread(folder)
        if start.round > 0 and not built.rounds.resumable:
            raise RunError(
                f"{folder}: cannot be resumed after round {start.round}: [strategy] "
                f'"{experiment["strategy"]["name"]}" does not say which of its attributes a later round needs. Name '
                'them in its class, `checkpointed = ("momentum",)`, or `()` where there are none; or start a new run.'
            )
        built.rounds.state = start.strategy
        transport, held = _carried(built, grid, folder)
        strategy = FlowerStrategy(built, start.params, transport, held, max(start.round, 0))
        strategy.accepted = start.accepted
        recorder = Recorder(folder, start, watch or (lambda row: None))
        strategy.checkpointed = recorder.checkpointed

        def commit(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            """Evaluate and write the round: the one commit point."""
            round_ = server_round + strategy.first_round
            if round_ <= start.round:
                return None  # resuming: this round is on disk already
            record = strategy.record if round_ else RoundRecord(0)
            central = _central(built, grid, strategy.params) if strategy.evaluates(round_) or round_ == 0 else {}
            last = round_ in (0, experiment.rounds)
            recorder.commit(record, strategy.params, built.rounds.state, strategy.accepted, central, due=last)
            strategy.checkpointed = recorder.checkpointed
            return None

        try:
            strategy.start(
                grid,
                NOTHING,
                num_rounds=experiment.rounds - max(start.round, 0),
                timeout=timeout,
                evaluate_fn=commit,
            )
        except BaseException as error:
            if recorder.last.round >= 0 and not isinstance(error, FedjourneyError):
                recorder.save()
            raise
        finally:
            recorder.close()
        return _finish(built, recorder)


def serve_app(grid: Grid, context: Context) -> None:
    """Serve from a Flower ServerApp; run config: `experiment` (path), `set` ("table.key=value; …"), `run` (folder)."""
    said = context.run_config
    overrides = [part.strip() for part in str(said.get("set", "")).split(";") if part.strip()]
    folder = Path(str(said["run"]))
    if (folder / "experiment.toml").is_file():
        built = plan(run_folder.experiment_of(folder))
    else:
        built = plan(config.load(str(said["experiment"]), overrides))
        run_folder.create(folder, built)
    serve(built, grid, folder, Where(None, (folder / "state").resolve()))


def _carried(built: Plan, grid: Grid, folder: Path) -> tuple[Transport, Container[int]]:
    """Return how exchanges travel on this grid, and which clients it holds."""
    if isinstance(grid, InProcessGrid):
        return grid, range(len(built.shards))
    _refuse_pooled(built)
    nodes = roll_call(grid, len(built.shards), built.experiment["experiment"]["timeout"])
    run = {
        "experiment": built.experiment.text(),
        "base-dir": str(built.experiment.base_dir),
        "run": run_folder.told(folder)["id"],
    }
    return Network(built, nodes, run), nodes


def _central(built: Plan, grid: Grid, params: Tensors) -> dict[str, dict[str, float]]:
    """Return metrics of the delivered model on validation and test; on the engine's workers, where it has them."""
    model, found = built.rounds.model(params), {}
    for split in ("validation", "test"):
        examples = getattr(built.dataset, split)
        if len(examples) == 0:
            continue
        if isinstance(grid, InProcessGrid):
            sums = grid.score(model, split)
        else:
            sums = added(built.score(model, split, rows) for rows in evaluation_blocks(len(examples)))
        found[split] = built.task.summary(sums)
    return found


def _finish(built: Plan, recorder: Recorder) -> Result:
    """Close the books: Parquet, model, the mark that the run is finished, and the page that tells it."""
    from fedjourney.report import write_report

    folder, last = recorder.folder, recorder.last
    model = built.rounds.model(last.params)
    with results.writing(folder):
        from safetensors.torch import save

        results.write_parquet(folder)
        write_atomically(folder / "model.safetensors", save(results.apart(model)))
        start = run_folder.fresh(built)
        untrained = [name for name, tensor in model.items() if name in start and tensor.cpu().equal(start[name])]
        trained = len(untrained) < len(model)
        if trained:  # what a start model does is nothing that was learned
            exhibit.write(folder, built.task, model, built.dataset.test)
        rounds = facts.rounds(folder)
        found = results.digest(model, last.chain)
        summary = results.valid_json(facts.summary(folder, rounds, found, last.seconds, trained))
        kept = run_folder.told(folder) | {"digest": found, "seconds": last.seconds, "summary": summary}
        kept["untrained"] = untrained
        (folder / "report.html").unlink(missing_ok=True)  # one of the unfinished run; from here on a resume writes it
        write_atomically(folder / "run.json", json.dumps(kept | {"finished": True}, indent=1).encode())
        write_report([folder])
        (folder / "clients.jsonl").unlink(missing_ok=True)
    return Result(folder, found, rounds, model, summary)


def _reread(folder: Path) -> Result:
    """Return the result of a run that has ended.

    Raises:
        RunError: something of it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from fedjourney.report import write_report

    kept, model = run_folder.told(folder), folder / "model.safetensors"
    try:
        rounds = facts.rounds(folder)
        if len(rounds) != kept["summary"]["rounds"] + 1 or not (folder / "clients.parquet").exists():
            raise KeyError("records are missing")
        if not (folder / "report.html").exists():
            write_report([folder])
        (folder / "clients.jsonl").unlink(missing_ok=True)
        return Result(folder, kept["digest"], rounds, load_file(model), kept["summary"])
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise RunError(f"{folder}: the finished run is damaged ({error}). Restore it, or run it anew.") from None


def _root(data_dir: str | Path | None) -> Path | None:
    return None if data_dir is None else storage.root("--data-dir", str(data_dir)).resolve()


def _unused(folder: Path) -> Path:
    """Return the folder's path, with a number appended where two runs began in the same second."""
    number, found = 1, folder
    while found.exists():
        number, found = number + 1, folder.with_name(f"{folder.name}-{number + 1}")
    return found
