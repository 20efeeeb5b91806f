"""The server's door: the Flower ServerApp that serves one experiment (see README.md beside this file)."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedjourney.experiment import serve_app

app = ServerApp()  # Flower reads this file's syntax: `app` must be bound by a plain assignment


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Serve the experiment that the run config names."""
    serve_app(grid, context)
