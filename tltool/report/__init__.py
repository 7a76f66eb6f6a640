"""Results -> self-contained HTML files and sheets of pictures."""

from tltool.report.atlas_figures import render_atlas
from tltool.report.card import CardSection, card_as_markdown
from tltool.report.comparison import render_comparison
from tltool.report.contact_sheet import Picture, check_sheet_name, write_contact_sheet
from tltool.report.content import PACKAGES, DoubtedImage, ReportTable, RunContent
from tltool.report.doubted import render_doubted
from tltool.report.explanations import ExplainedImage, ExplainedMap, render_explanations
from tltool.report.findings import findings_in_words
from tltool.report.html import MOST_MISTAKES, render_report
from tltool.report.overlays import overlay, shown_image
from tltool.report.pages import check_page_name, default_page, render_page
from tltool.report.thumbnails import data_address, thumbnail

__all__ = [
    "MOST_MISTAKES",
    "PACKAGES",
    "CardSection",
    "DoubtedImage",
    "ExplainedImage",
    "ExplainedMap",
    "Picture",
    "ReportTable",
    "RunContent",
    "card_as_markdown",
    "check_page_name",
    "check_sheet_name",
    "data_address",
    "default_page",
    "findings_in_words",
    "overlay",
    "render_atlas",
    "render_comparison",
    "render_doubted",
    "render_explanations",
    "render_page",
    "render_report",
    "shown_image",
    "thumbnail",
    "write_contact_sheet",
]
