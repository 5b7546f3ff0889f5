"""Write the results page as one HTML file, and next to it a PNG and a CSV file for each figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from r2kd_mm.engine.fileio import AtomicLocalBackend, check_writable
from r2kd_mm.report.exhibits.exhibit import Exhibit
from r2kd_mm.report.style import to_png, to_svg
from r2kd_mm.report.summary import Summary
from r2kd_mm.version import __version__

PAGE = 'index.html'


def write_page(
    folder: Path, title: str, subtitle: str, summary: Summary, exhibits: Sequence[Exhibit], notes: Sequence[str]
) -> Path:
    """Write ``index.html``, which needs no other file, and for each exhibit a PNG and a CSV.

    Args:
        folder: Folder of the page; created if it does not exist.
        title: Title of the page.
        subtitle: Line below the title, about the runs and images.
        summary: Table at the top of the page.
        exhibits: Figures below the table, in this order.
        notes: Remarks about the runs, one sentence each.

    Returns:
        Path of ``index.html``.

    Raises:
        OSError: The folder cannot be written.
        ImportError: Jinja2 is not installed.

    Example:
        >>> summary = Summary(header=['method', 'accuracy, %'], rows=[['KD', '70.00']], numbers=[['KD', 70.0]])
        >>> write_page(Path('small_page'), 'What the runs did', 'One method.', summary, exhibits=[], notes=[])
        PosixPath('small_page/index.html')
    """
    check_writable(folder, 'folder', '--out')
    (folder / 'summary.csv').write_text(to_csv(summary.header, summary.numbers))
    for exhibit in exhibits:
        (folder / f'{exhibit.name}.png').write_bytes(to_png(exhibit.draw))
        (folder / f'{exhibit.name}.csv').write_text(to_csv(exhibit.header, exhibit.rows))
    page = folder / PAGE
    AtomicLocalBackend().put_text(render(title, subtitle, summary, exhibits, notes), page)
    return page


def render(title: str, subtitle: str, summary: Summary, exhibits: Sequence[Exhibit], notes: Sequence[str]) -> str:
    """Render the page as text, see :func:`write_page`."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ImportError(
            "the page is made by Jinja2, which is not installed; install the extra: pip install 'r2kd_mm[analysis]'"
        ) from error
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string((files('r2kd_mm.report') / 'page.html').read_text(encoding='utf-8'))
    return template.render(
        title=title,
        subtitle=subtitle,
        summary=summary,
        figures=[(exhibit, to_svg(exhibit.draw, exhibit.name)) for exhibit in exhibits],
        notes=notes,
        version=__version__,
    )


def to_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format comma-separated values, numbers with 6 digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(header)
    writer.writerows([f'{cell:.6g}' if isinstance(cell, float) else cell for cell in row] for row in rows)
    return buffer.getvalue()
