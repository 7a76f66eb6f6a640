"""Where images come from: readers, checks, splits, decoding."""

from tltool.data.checks import CheckReport, check_listing, readable_images
from tltool.data.corrections import LEFT_OUT, read_corrections
from tltool.data.dataset import Dataset, Example
from tltool.data.decoding import (
    CANVAS_VERSION,
    SCALED_DECODING_MARGIN,
    ImageData,
    UnreadableImageError,
    canvas,
    canvas_of_file,
    read_image,
)
from tltool.data.inspection import Inspection, InspectionCache
from tltool.data.listing import BadFile, Listing, kinds_in_words
from tltool.data.readers import TableColumns, image_files, read_listing
from tltool.data.splits import SplitReport, check_shares, split_dataset

__all__ = [
    "CANVAS_VERSION",
    "LEFT_OUT",
    "SCALED_DECODING_MARGIN",
    "BadFile",
    "CheckReport",
    "Dataset",
    "Example",
    "ImageData",
    "Inspection",
    "InspectionCache",
    "Listing",
    "SplitReport",
    "TableColumns",
    "UnreadableImageError",
    "canvas",
    "canvas_of_file",
    "check_listing",
    "check_shares",
    "image_files",
    "kinds_in_words",
    "read_corrections",
    "read_image",
    "read_listing",
    "readable_images",
    "split_dataset",
]
