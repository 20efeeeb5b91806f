"""The parts of a run's page that are words and tables."""

import re
from collections import Counter
from statistics import median
from typing import Any

from fedjourney.metrics import spoken
from fedjourney.report.record import SPLITS, Run, number, reading, table
from fedjourney.report.words import byte_text, duration, esc, folded, html_table, measured, plain, plural

MOST_KINDS, MOST_LETTERS = 40, 400
MOST_ACROSS = 640  # pixels that a small picture is enlarged to
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")


def rounds_table(run: Run) -> str:
    """Return every round as a row: what was measured, who answered, what was sent."""
    measures = [(split, name) for name in run.metrics for split in SPLITS if run.values(split, name)]
    head = [
        "round",
        *(f"{split} {spoken(name)}" for split, name in measures),
        "asked",
        "answered",
        "up",
        "down",
        "time",
    ]
    rows = []
    for row in run.rounds:
        clients = table(row, "clients")
        rows.append(
            [
                row.get("round", "-"),
                *(measured(name, reading(table(row, split), name)) for split, name in measures),
                clients.get("asked", "-"),
                clients.get("answered", "-"),
                byte_text(number(row.get("bytes_up"))),
                byte_text(number(row.get("bytes_down"))),
                duration(number(row.get("seconds"))),
            ]
        )
    return html_table(head, rows, "Every round")


def client_words(run: Run) -> str:
    """Return a sentence on the rows the clients left, or nothing where there are none."""
    rows = run.client_rows
    if not rows:
        return ""
    statuses = Counter(str(row.get("status", "without status")) for row in rows)
    turns = list(Counter(str(row.get("client")) for row in rows).values())
    words = f"{plural(len(turns), 'client')} took part, each in "
    if min(turns) == max(turns):
        words += plural(turns[0], "round")
    else:
        words += f"{min(turns)} to {max(turns)} rounds ({plain(median(turns))} in the middle)"
    words += "; the rows say: "
    words += ", ".join(f"{count:,} {status}" for status, count in statuses.most_common(6)) + "."
    last = max((x for row in rows if (x := number(row.get("round"))) is not None), default=None)
    losses = [x for row in rows if row.get("round") == last and (x := number(row.get("loss"))) is not None]
    if losses:
        words += f" In round {plain(last)} their loss was {plain(min(losses))} to {plain(max(losses))},"
        words += f" {plain(median(losses))} in the middle."
    return f'<p class="said" style="margin-top:14px">{esc(words)}</p>'


def failures(run: Run) -> str:
    """Return the failures by kind, each with an example, or that there were none."""
    found = [
        (row.get("round"), failure)
        for row in run.rounds
        for failure in table(row, "clients").get("failed") or []
        if isinstance(failure, dict)
    ]
    if not found:
        return '<p class="none">No failures.</p>'
    kinds: dict[tuple[str, str], list[tuple[Any, dict[str, Any]]]] = {}
    for at, failure in found:
        key = (str(failure.get("kind", "unknown")), str(failure.get("stage", "-")))
        kinds.setdefault(key, []).append((at, failure))
    rows = []
    for (kind, stage), cases in sorted(kinds.items(), key=lambda item: -len(item[1]))[:MOST_KINDS]:
        at, example = cases[0]
        who = len({str(case.get("client")) for _, case in cases})
        message = str(example.get("message", ""))
        message = message if len(message) <= MOST_LETTERS else message[:MOST_LETTERS] + "…"
        rows.append([kind, stage, len(cases), who, f"round {at}, client {example.get('client', '-')}: {message}"])
    asked = sum(y for _, y in run.series("clients", "asked"))
    rate = f" in {plain(asked)} requests" if asked else ""
    said = f"{plural(len(found), 'failure')}{rate}."
    if len(kinds) > MOST_KINDS:
        said += f" The {MOST_KINDS} most frequent of {len(kinds)} kinds:"
    figures = html_table(
        ["kind", "stage", "times", "clients", "first case"],
        rows,
        "Failures by kind, with an example of each",
        False,
    )
    return f'<p class="said">{esc(said)}</p>{figures}'


def exhibit(run: Run) -> str:
    """Return the texts and pictures that the task had to show, or nothing where it has none."""
    parts = []
    if run.personal and run.exhibit:
        parts.append('<p class="said">Shown is the shared model, not those that clients have of their own.</p>')
    for entry in run.exhibit:
        name, picture = str(entry.get("name", "")), str(entry.get("picture", ""))
        size = [x for key in ("width", "height") if (x := number(entry.get(key))) is not None and x > 0]
        caption = f"<figcaption>{esc(name)}</figcaption>"
        if PICTURE.fullmatch(picture) and len(size) == 2:
            times = max(1, round(MOST_ACROSS / max(size)))
            parts.append(
                f'<figure class="wide part">{caption}<img class="pixels" src="{picture}" alt="{esc(name)}" '
                f'width="{size[0] * times:.0f}" height="{size[1] * times:.0f}"></figure>'
            )
        elif "text" in entry:
            parts.append(f'<figure class="wide">{caption}<pre tabindex="0">{esc(entry["text"])}</pre></figure>')
        else:
            why = entry.get("problem", "it is no picture and no text")
            parts.append(f'<p class="none">{esc(name)} could not be made: {esc(why)}.</p>')
    return f'<h2>What it learned to do</h2><div class="exhibit">{"".join(parts)}</div>' if parts else ""


def configuration(run: Run) -> str:
    """Return the resolved experiment, a block per table, and the file itself."""
    blocks = []
    for name, value in run.experiment.items():
        for one in value if isinstance(value, list) else [value]:
            options = one if isinstance(one, dict) else {"": one}
            title = f"{name}: {options['name']}" if "name" in options and name != "experiment" else name
            rest = {key: x for key, x in options.items() if key != "name" or name == "experiment"}
            blocks.append(f"<section><h3>{esc(title)}</h3>{_pairs(rest) if rest else ''}</section>")
    return f'<div class="tables">{"".join(blocks)}</div>' + folded(
        "experiment.toml", f'<pre tabindex="0">{esc(run.toml)}</pre>'
    )


def platform(run: Run) -> str:
    """Return platform, versions, data set and digest, as far as `run.json` tells."""
    if not run.info:
        return '<p class="none">Without run.json it is not known where this ran.</p>'
    dataset = table(run.info, "dataset")
    blocks = [
        ("platform", table(run.info, "platform")),
        ("versions", table(run.info, "versions")),
        ("dataset", {key: value for key, value in dataset.items() if key not in ("classes", "examples")}),
        ("examples", table(dataset, "examples")),
        ("result", {"digest": run.info["digest"]} if run.info.get("digest") else {}),
    ]
    shown = "".join(f"<section><h3>{esc(name)}</h3>{_pairs(pairs)}</section>" for name, pairs in blocks if pairs)
    return f'<div class="tables">{shown}</div>'


def again(run: Run) -> str:
    """Return the command that runs the same experiment."""
    same = (
        "The resolved file in the run folder holds every option. On the same platform the digest comes out the same."
        if run.info.get("digest")
        else "The resolved file in the run folder holds every option."
    )
    return f'<p class="said">{same}</p><pre tabindex="0">fedjourney run experiment.toml</pre>'


def _pairs(options: dict[str, Any]) -> str:
    shown = (f"<dt>{esc(key)}</dt><dd>{esc(_option(value))}</dd>" for key, value in options.items())
    return f"<dl>{''.join(shown)}</dl>"


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}"
    if isinstance(value, list):
        return ", ".join(_option(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_option(one)}" for key, one in value.items())
    return str(value)
