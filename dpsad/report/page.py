"""Comparison page: one HTML file that asks for nothing else; pictures, style and script are in it."""

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from PIL import Image

from dpsad.report.decision import Grid, at_a_glance, grids, verdicts
from dpsad.report.groups import Group
from dpsad.report.plots import curves
from dpsad.report.reading import Result
from dpsad.report.samples import bands
from dpsad.report.table import PRIVATE, Column, columns, remarks

SAMPLE_BYTES = 2_500_000  # of pixels on the whole page, before they are compressed and encoded

READING = [
    ("accuracy", "of a classifier trained on a run's samples alone and tested once on real test images."),
    (
        "runs taken together",
        "those that were told the same but for the seed: their mean, and the standard deviation between them after ±. "
        "Behind a single run's accuracy stands where it lies with 95 % confidence for the number of test images alone; "
        "another run of the same setting may lie outside.",
    ),
    (
        "prototypes alone",
        "what a classifier learns from the released prototypes, without any network. Real images are the ceiling.",
    ),
    (
        "more accurate at no larger epsilon",
        "by more than twice the error that is known; said of formal runs alone, at one delta and adjacency.",
    ),
    ("calibration error", "expected difference of a classifier's confidence and its accuracy; lower is better."),
    (
        "Frechet distance",
        "between samples and real training images, in the named feature space; lower is better. It is "
        "called FID only where the features are Inception's.",
    ),
    (
        "epsilon, delta",
        "what one record, or one person, added or removed as the adjacency says, can change: any outcome's "
        "probability by a factor of at most exp(epsilon), up to delta.",
    ),
    (
        "nominal",
        "an epsilon that is reported and does not hold. It may stand beside formal ones to compare "
        "what samples are worth, never to choose how private they are.",
    ),
    (
        "audited epsilon",
        "a lower bound that `dpsad audit` has measured: no epsilon below it can be true of what was audited, with the "
        "confidence in private/audit.json. Far below the epsilon it is no comfort, above it an alarm.",
    ),
    ("training minutes", "wall time of all stages on the named hardware; images per second is the student's sampling."),
]


def page(groups: Sequence[Group], left_out: Sequence[str]) -> str:
    """The whole document. Every text that comes from a run is escaped; the policy in its head forbids all requests."""
    style, script = (
        files("dpsad.report").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    num_runs = sum(len(group.results) for group in groups)
    sections = "\n".join(_section(number, group, SAMPLE_BYTES // len(groups)) for number, group in enumerate(groups))
    reading = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in READING)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'sha256-{digest}'">
<title>dpsad: comparison of {_count(num_runs, "run")}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#results">Skip to the results</a>
<header>
<h1>Comparison of {_count(num_runs, "run")}</h1>
<p class="private"><strong>Private.</strong> {escape(PRIVATE)}</p>
</header>
<main id="results" tabindex="-1">
{sections}
{_left_out(left_out)}
<section><h2>How to read this</h2><dl>{reading}</dl></section>
</main>
<footer>
<p>{escape(PRIVATE)} Choosing between runs by these numbers is not covered either.
What may be shared is each run's <code>release/</code> folder, as private as its <code>privacy.json</code> says.</p>
</footer>
<script>{script}</script>
</body>
</html>
"""


def _section(number: int, group: Group, sample_bytes: int) -> str:
    figures = "\n".join(
        f'<figure><figcaption>{escape(curve.title)}</figcaption><img class="curve" alt="{escape(curve.alt)}" '
        f'src="{_data_uri(curve.svg.encode(), "image/svg+xml")}"></figure>'
        for curve in curves(group)
    )
    plots = f'<h3>Privacy and utility</h3>\n<div class="curves">\n{figures}\n</div>' if figures else ""
    more = "\n".join(_grid(f"grid-{number}-{place}", grid) for place, grid in enumerate(grids(group)))
    return f"""<section aria-labelledby="data-{number}">
<h2 id="data-{number}">{escape(group.data)} <small>{_count(len(group.results), "run")}</small></h2>
{_list("Verdict", verdicts(group))}
{_grid(f"glance-{number}", at_a_glance(group))}
{_list("Caution: these runs differ", group.differences, kind="caution")}
{_table(number, group)}
{_list("Remarks", remarks(group))}
{plots}
{more}
{_samples(number, group, sample_bytes)}
</section>"""


def _grid(name: str, grid: Grid) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in grid.heads)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>\n'
        for row in grid.rows
    )
    return f"""<h3 id="{name}">{escape(grid.title)}</h3>
<div class="wide" role="region" aria-labelledby="{name}" tabindex="0">
<table class="grid" aria-labelledby="{name}"><thead><tr>{heads}</tr></thead><tbody>
{rows}</tbody></table>
</div>"""


def _table(number: int, group: Group) -> str:
    """Formal runs above, the others under a heading of their own; sorting keeps them apart."""
    shown = columns(group)
    heads = "".join(f'<th scope="col"><button type="button">{escape(column.title)}</button></th>' for column in shown)
    formal = "".join(_row(shown, result) for result in group.formal)
    others = "".join(_row(shown, result) for result in group.not_formal)
    bodies = f"<tbody>{formal}</tbody>" if formal else ""
    if others:
        warning = "NOT formal: the epsilon of these runs is nominal, and nothing is guaranteed"
        heading = f'<tr class="heading"><th scope="rowgroup" colspan="{len(shown)}"><span>{warning}</span></th></tr>'
        bodies += f'\n<tbody class="not-formal">{heading}{others}</tbody>'
    return f"""<p class="hint" id="table-{number}">Runs on {escape(group.data)}; the headings sort.</p>
<div class="wide" role="region" aria-labelledby="table-{number}" tabindex="0">
<table class="results" aria-labelledby="table-{number}">
<thead><tr>{heads}</tr></thead>
{bodies}
</table>
</div>"""


def _row(shown: Sequence[Column], result: Result) -> str:
    cells = []
    for column in shown:
        value = column.value(result)
        number = isinstance(value, float) and math.isfinite(value)
        order = "" if value is None else repr(value) if number else str(value)
        tag = 'th scope="row"' if column is shown[0] else "td"
        kind = ' class="number"' if isinstance(value, float) else ""
        text = escape(column.text(result)) or '<span class="none">none</span>'
        cells.append(f'<{tag}{kind} data-order="{escape(order)}">{text}</{tag[:2]}>')
    return f"\n<tr>{''.join(cells)}</tr>"


def _samples(number: int, group: Group, sample_bytes: int) -> str:
    """One column a class, one band a run, so that a class can be followed down the page."""
    pictures, complaints = bands(group, sample_bytes)
    names = list(dict.fromkeys(name for by_class in pictures.values() for name in by_class))
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    by_name = {result.name: result for result in group.results}
    rows = []
    for run, by_class in pictures.items():
        mark = "" if by_name[run].formal else ' <span class="badge">NOT formal</span>'
        mark += "" if by_name[run].labelled else " (made without labels: a column is no class)"
        rows.append(
            f'<tr class="run"><th scope="rowgroup" colspan="{len(names)}"><span>{escape(run)}{mark}</span></th></tr>'
        )
        cells = (_picture(f"{run}, class {name}", by_class.get(name)) for name in names)
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    table = f"""<h3 id="samples-{number}">Samples by class</h3>
<div class="wide" role="region" aria-labelledby="samples-{number}" tabindex="0">
<table class="samples"><thead><tr>{heads}</tr></thead><tbody>
{"".join(rows)}
</tbody></table>
</div>"""
    return (table if pictures else "") + _list("Samples that are not shown", complaints)


def _picture(alt: str, picture: Image.Image | None) -> str:
    if picture is None:
        return ""
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img {size} alt="{escape(alt)}" src="{_data_uri(file.getvalue(), "image/png")}">'


def _left_out(lines: Sequence[str]) -> str:
    return f"<section>\n<h2>Left out</h2>\n<ul>{_items(lines)}</ul>\n</section>" if lines else ""


def _list(title: str, lines: Sequence[str], *, kind: str = "remarks") -> str:
    if not lines:
        return ""
    return f'<div class="{kind}"><h3>{escape(title)}</h3><ul>{_items(lines)}</ul></div>'


def _items(lines: Sequence[str]) -> str:
    return "".join(f"<li>{escape(line)}</li>" for line in lines)


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
