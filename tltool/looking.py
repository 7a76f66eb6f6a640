"""Looking at a network: its first filters, its activations, and the images that excite it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tltool._files import printable, write_atomically
from tltool._presets import backbone_names, backbone_preset
from tltool._validation import TltoolError, check_int, nearest, storage_error
from tltool.data import (
    BadFile,
    TableColumns,
    canvas_of_file,
    read_listing,
    readable_images,
)
from tltool.features import FeatureStore, choose_engine, make_engine
from tltool.filters import first_filters
from tltool.looked_at import LookedAt
from tltool.map_taps import MapTap, MapTaps
from tltool.maximal import (
    ExcitedChannel,
    excited_channels,
    is_cut,
    maxima_model,
    most_exciting,
    most_varied,
)
from tltool.receptive_fields import receptive_field
from tltool.report import check_page_name
from tltool.report.look_page import (
    excited_section,
    filters_section,
    maps_section,
    render_look,
)
from tltool.runs import Run

if TYPE_CHECKING:
    import keras

__all__ = ["Look", "look"]

_log = logging.getLogger(__name__)

# Channels whose maps are shown of an image, and channels shown where no filters are named.
_MAPS = 64
_CHANNELS = 12

# More would make the page larger than 5 MB.
_TOP, _MOST_IMAGES = 9, 25


@dataclass(frozen=True)
class Look:
    """What `look` showed.

    Args:
        out: the page.
        network: name of the backbone, or the run's folder.
        weights: where they come from, in words.
        first_layer: name of the first convolution.
        n_filters: how many it has.
        kernel_size: height and width of its kernels.
        stride: of it, down and across.
        tap: the layer that was looked at; "" for none.
        mapped: channels whose maps of the image are shown, by their mean activation; the largest
            first.
        searched: different images that were looked through.
        excited: channels and their images.
        bad_files: files that were left out, and why.
        notes: what is to be known of it, a sentence each.
    """

    out: Path
    network: str
    weights: str
    first_layer: str
    n_filters: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    tap: str = ""
    mapped: tuple[int, ...] = ()
    searched: int = 0
    excited: tuple[ExcitedChannel, ...] = ()
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)} | {
            "out": printable(str(self.out)),
            "bad_files": [asdict(bad) for bad in self.bad_files],
            "excited": [one.as_json() for one in self.excited],
        }
        return facts


def look(
    where: str | Path,
    *,
    image: str | Path | None = None,
    data: str | Path | None = None,
    tap: str | None = None,
    filters: str | Sequence[int] | None = None,
    top: int = _TOP,
    weights: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    engine: str = "auto",
    store: str | Path | None = None,
    bad_images: str = "skip",
    **columns: str | None,
) -> Look:
    """Show a network's first filters, its activations of an image, and what excites it most.

    Args:
        where: name of a backbone, or a run folder, whose own network is looked at.
        image: an image file, of which activations are shown.
        data: images, as for `adapt`, among which those are found that excite channels most.
        tap: a layer with maps, named by the preset or by Keras, without pooling; None for the
            highest block whose receptive field has at most half the side of the input.
        filters: channels of that layer, "3,17" or numbers; None for the twelve whose largest
            activation varies most between images, by its standard deviation.
        top: images of each, at most 25.
        weights: of a backbone: "imagenet", "none" (random), a file, or None for its own.
        out: the page; None for `look-NAME.html`.
        force: replace a file that is there.
        engine: "auto", "keras" or "openvino"; what goes through all images.
        store: folder of the feature store, where it is kept which files can be read; None for the
            user's.
        bad_images: "skip" or "fail".
        **columns: `image_column`, `label_column` and `split_column` of a table.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Example:
        >>> found = tltool.looking.look("cifar-resnet20", data="photos", tap="stage2")
        >>> found.excited[0].images[0].file
        'rose/12.jpg'

    Source: Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", 2014,
    https://arxiv.org/abs/1311.2901
    """
    if tap is not None and image is None and data is None:
        raise TltoolError("--tap is for --image or --data; name an image or a data set, too.")
    more = None if top == _TOP else top
    of_data: dict[str, Any] = {"filters": filters, "top": more, "store": store, **columns}
    for name, given in of_data.items():
        if given is not None and data is None:
            option = f"--{name.replace('_', '-')}"
            raise TltoolError(f"{option} is for --data; name a data set, too.")
    check_int("--top", top, low=1, high=_MOST_IMAGES)
    subject = _network_of(where, weights)
    path = Path(out).expanduser() if out else Path(f"look-{subject.name}.html")
    check_page_name(path, force=force)
    chosen_engine = choose_engine(engine)
    size = subject.input_size
    seen = None if image is None else (printable(Path(image).name), canvas_of_file(image, size))
    listing = None if data is None else read_listing(data, TableColumns.named(columns))
    maps = MapTaps(subject.preset, size, subject.layers())
    chosen = maps.choose(tap) if seen or listing else None
    asked = chosen.numbers(filters) if chosen and filters is not None else None
    notes = ["The weights are random: the network has learned nothing."] if subject.random else []
    for note in notes:
        _log.warning(note)

    network = subject.network
    first = first_filters(network, subject.preset.preprocessing.channels)
    sections = [filters_section(first)]
    found: dict[str, Any] = {"tap": chosen.name if chosen else ""}
    if chosen and seen:
        name, pixels = seen
        activated = subject.maps(chosen.layer, pixels)
        order = np.argsort(-activated.mean(axis=(0, 1)), kind="stable")
        mapped = tuple(int(channel) for channel in order[:_MAPS])
        picture = Image.fromarray(pixels)
        sections.append(maps_section(chosen.title, picture, name, activated, mapped))
        found["mapped"] = mapped
    if chosen and listing:
        with FeatureStore(store) as kept:
            examples, bad = readable_images(listing, bad_images=bad_images, cache=kept)
        images = list({e.hash: e for e in reversed(examples)}.values())[::-1]  # the first of copies
        run = make_engine(
            chosen_engine,
            subject.engine_key(chosen.layer),
            lambda: maxima_model(network, chosen.layer),
            fall_back=engine == "auto",
        )
        maxima = most_exciting(run, images, size, chosen.channels, top)
        field = receptive_field(network, chosen.layer, maps.rows, size)
        shown = most_varied(maxima, _CHANNELS) if asked is None else asked
        excited = excited_channels(maxima, shown, images, chosen.row.output_shape[1], field.box)
        said = _said_of_channels(network, chosen, asked)
        sections.append(excited_section(chosen.title, excited, field, len(images), said))
        found |= {"searched": len(images), "excited": excited, "bad_files": bad}
    facts = (subject.preset.title, "{} x {} pixels".format(*size), f"weights: {subject.weights}")
    _write(path, render_look(f"A look at {subject.name}", facts, notes, sections))
    n, height, width, _ = first.kernels.shape
    return Look(
        path,
        subject.name,
        subject.weights,
        first.layer,
        n,
        (height, width),
        first.stride,
        notes=tuple(notes),
        **found,
    )


def _network_of(where: str | Path, weights: str | None) -> LookedAt:
    """The backbone or run that a user named."""
    if str(where) in backbone_names():
        return LookedAt.backbone(str(where), weights)
    folder = Path(where).expanduser()
    if not folder.is_dir():
        raise TltoolError(
            f"{where} is neither a backbone nor the folder of a run: "
            f"{nearest(str(where), backbone_names())}"
        )
    run = Run(folder)
    members = run.facts.get("members")
    if members:
        raise TltoolError(
            f"{run.folder} is an ensemble of several networks, and one is looked at; name a run of "
            f"one network, such as {members[0]['run']}."
        )
    if weights is not None:
        raise TltoolError(
            f"--weights is for a backbone, and {run.folder} is a run with weights of its own; "
            "leave it out."
        )
    source = str(run.facts.get("weights", {}).get("source", "not noted"))
    trained = run.trained_network
    return LookedAt(
        printable(run.folder.resolve().name),
        backbone_preset(str(run.facts["backbone"])),
        run.input_size,
        "the run's own, trained on its images" if trained else printable(source),
        not trained and source == "random weights",
        run.key,
        run.model,
        whole=False,
    )


def _said_of_channels(
    network: keras.Model, chosen: MapTap, asked: Sequence[int] | None
) -> list[str]:
    """How channels were chosen and compared, where that needs saying."""
    said = []
    if asked is None:
        said.append(
            "Shown are the channels whose largest activation varies most between images, by its "
            "standard deviation; name others with --filters."
        )
    if is_cut(network, chosen.layer):
        said.append(
            f"The layer {chosen.layer} cuts its values off above, and many places reach that; "
            "values here are those before the cut."
        )
    return said


def _write(path: Path, page: str) -> None:
    try:
        write_atomically(path, page)
    except OSError as error:
        raise storage_error("write", path, error, "name another file with --out") from error
