"""Results -> one self-contained HTML file."""

from tltool.report.content import PACKAGES, findings_in_words, report_content
from tltool.report.html import Mistake, ReportContent, render_report

__all__ = [
    "PACKAGES",
    "Mistake",
    "ReportContent",
    "findings_in_words",
    "render_report",
    "report_content",
]
