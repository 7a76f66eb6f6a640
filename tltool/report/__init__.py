"""Results -> self-contained HTML files and sheets of pictures."""

from tltool.report.contact_sheet import Picture, check_sheet_name, write_contact_sheet
from tltool.report.content import PACKAGES, Outcome, findings_in_words, report_content, run_page
from tltool.report.html import Mistake, ReportContent, ReportTable, render_report
from tltool.report.thumbnails import thumbnail

__all__ = [
    "PACKAGES",
    "Mistake",
    "Outcome",
    "Picture",
    "ReportContent",
    "ReportTable",
    "check_sheet_name",
    "findings_in_words",
    "render_report",
    "report_content",
    "run_page",
    "thumbnail",
    "write_contact_sheet",
]
