"""Results -> one self-contained HTML file."""

from tltool.report.content import PACKAGES, Outcome, findings_in_words, report_content
from tltool.report.html import Mistake, ReportContent, render_report

__all__ = [
    "PACKAGES",
    "Mistake",
    "Outcome",
    "ReportContent",
    "findings_in_words",
    "render_report",
    "report_content",
]
