"""Results -> one self-contained HTML file."""

from tltool.report.html import Mistake, ReportContent, render_report

__all__ = ["Mistake", "ReportContent", "render_report"]
