"""Results as a part of a web page, which notebooks show in place of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remap.console.advice import advice_lines
from remap.console.check import check_lines
from remap.console.comparison import comparison_lines
from remap.console.extraction import report_lines
from remap.console.inspection import Selection, overview_lines
from remap.console.invocation import Invocation
from remap.console.rendering import html_fragment
from remap.console.text import Line

if TYPE_CHECKING:
    from remap.checking import Check
    from remap.comparison.results import Comparison
    from remap.results import Inspection, Report

__all__ = ["check_html", "comparison_html", "inspection_html", "report_html"]

_WIDTH = 110


def inspection_html(inspection: Inspection) -> str:
    """Show what `h5remap inspect` shows."""
    view = overview_lines(inspection, Selection(), width=_WIDTH, ascii_only=False)
    return html_fragment([*view, Line(), *advice_lines(inspection, width=_WIDTH)])


def report_html(report: Report) -> str:
    """Show what `h5remap extract` shows."""
    invocation = Invocation(
        command="extract", source=report.source, options=(("target", report.target or "single.h5"),)
    )
    return html_fragment(report_lines(report, invocation, width=_WIDTH))


def check_html(check: Check) -> str:
    """Show what `h5remap check` shows."""
    return html_fragment(check_lines(check, width=_WIDTH, ascii_only=False))


def comparison_html(comparison: Comparison) -> str:
    """Show what `h5remap compare` shows."""
    return html_fragment(comparison_lines(comparison, width=_WIDTH, ascii_only=False))
