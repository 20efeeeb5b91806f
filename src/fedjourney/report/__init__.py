"""A run as one HTML page: no server, no network, nothing but the folder the run left."""

from collections.abc import Sequence
from pathlib import Path

from fedjourney.errors import RunError
from fedjourney.report.reading import read_run

__all__ = ["write_report"]


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page of one run, or of several laid over each other.

    Args:
        runs: one run folder or several; each holds at least `experiment.toml` and `rounds.jsonl`.
        out: the page's file. By default `report.html` in the folder of the one run, and `comparison.html`
            beside the first of several.

    Returns:
        The file written.

    Raises:
        RunError: no run is named, a folder holds no run, or the page cannot be written.

    Example:
        >>> write_report([Path("runs/mnist")])  # doctest: +SKIP
        PosixPath('runs/mnist/report.html')
    """
    from fedjourney.report.compare import comparison_page
    from fedjourney.report.page import run_page

    if not runs:
        raise RunError("report: expected at least one run folder, got none. Name the folder of a run.")
    read = [read_run(Path(folder)) for folder in runs]
    if out is None:
        folder = read[0].folder
        out = folder / "report.html" if len(read) == 1 else folder.resolve().parent / "comparison.html"
    page = run_page(read[0]) if len(read) == 1 else comparison_page(read)
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A client's message may hold lone surrogates; a page with a question mark beats no page.
        out.write_text(page, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise RunError(
            f"{out}: the report cannot be written ({error}). "
            "Expected a file in a folder that can be written; name another with out."
        ) from None
    return out
