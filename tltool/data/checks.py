"""Every file decoded in full once; duplicates, near-duplicates and contradictions found."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from tltool._cores import cores
from tltool._files import counted, natural_key
from tltool._progress import progress
from tltool._validation import TltoolError, check_option
from tltool.data.dataset import Dataset, Example
from tltool.data.decoding import UnreadableImageError
from tltool.data.inspection import Inspection, InspectionCache, MemoryCache, inspect
from tltool.data.listing import SPLITS, BadFile, Entry, Listing, kinds_in_words
from tltool.data.near_duplicates import near_duplicate_groups

__all__ = ["CheckReport", "check_listing", "readable_images"]

_log = logging.getLogger(__name__)

# More than this share of unreadable files fails any run: something is wrong with the data.
_LARGEST_BAD_SHARE = 0.10

# So many of them are told of one by one.
_MOST_NAMED = 50

# Files hashed, looked up and inspected at a time.
_CHUNK = 256


@dataclass(frozen=True)
class CheckReport:
    """What the checks found; names are printable paths relative to the data.

    Args:
        source: the data as the user named it.
        n_files: files that ought to be images.
        n_images: those that are used.
        classes: images by class, in the classes' natural order.
        splits: images by split, as given with the data.
        bad_files: unreadable or refused ones.
        ignored: number of other files by extension.
        duplicates: groups of files with identical bytes and one label.
        contradictions: groups of files with identical bytes and several labels; none is used.
        near_duplicates: groups of different files that show the same picture.
        leaks: files that left a split because a later one (test, then val) holds an exact copy.
        smallest: width and height in pixels of the image with the fewest.
        largest: width and height in pixels of the image with the most.
        notes: other findings, a sentence each.
    """

    source: str
    n_files: int
    n_images: int
    classes: Mapping[str, int]
    splits: Mapping[str, int]
    bad_files: tuple[BadFile, ...]
    ignored: Mapping[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    contradictions: tuple[tuple[str, ...], ...]
    near_duplicates: tuple[tuple[str, ...], ...]
    leaks: tuple[str, ...]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One entry after its file was read: the hash and what was found, or why nothing was."""

    entry: Entry
    hash: bytes
    inspection: Inspection | None
    reason: str = ""


def check_listing(
    listing: Listing,
    *,
    bad_images: str = "skip",
    cache: InspectionCache | None = None,
    for_training: bool = True,
) -> tuple[Dataset, CheckReport]:
    """Read every file, and keep what can be used.

    Args:
        listing: from a reader.
        bad_images: "skip" unreadable files, or "fail" at the first look.
        cache: where inspections are kept; a file whose bytes are known is hashed, not decoded.
        for_training: whether there must be two classes, and every class in train.

    Returns:
        The dataset, its splits as given with the data, and what was found.

    Raises:
        TltoolError: no image, fewer than two classes, unreadable files under "fail" or beyond one
            in ten, or a class that only the test split has.
    """
    cache = MemoryCache() if cache is None else cache
    readable, bad = _read_all(listing, bad_images, cache)
    contradictions = _contradictions(readable)
    used = [s for s in readable if s.hash not in contradictions]
    used, leaks = _without_leaks(used)
    hashes = {s.hash: s.inspection.perceptual_hash for s in used if s.inspection}
    group_of = near_duplicate_groups(
        {h: value for h, value in hashes.items() if value is not None}, cache.thumbnails
    )
    examples = tuple(
        Example(
            path=s.entry.path,
            name=s.entry.name,
            label=s.entry.label,
            hash=s.hash,
            group=group_of.get(s.hash, s.hash),
            split=s.entry.split,
        )
        for s in used
    )
    labels = tuple(sorted({e.label for e in examples}, key=natural_key))
    given = frozenset(entry.split for entry in listing.entries if entry.split)
    dataset = Dataset(listing.source, examples, labels, given)
    if not examples:
        raise TltoolError(f"{listing.source} has no usable image left after the checks.")
    if for_training:
        _refuse_classes(dataset, listing, contradictions.values())
    sizes = sorted(
        ((s.inspection.width, s.inspection.height) for s in used if s.inspection),
        key=lambda size: size[0] * size[1],
    )
    report = CheckReport(
        source=listing.source,
        n_files=len(listing.entries) + len(listing.bad),
        n_images=len(examples),
        classes=_count_classes(examples, labels),
        splits={split: n for split in SPLITS if (n := len(dataset.of(split)))},
        bad_files=bad,
        ignored=dict(listing.ignored),
        duplicates=_file_groups((e.hash, e.name) for e in examples),
        contradictions=_file_groups(
            (s.hash, s.entry.name) for s in readable if s.hash in contradictions
        ),
        near_duplicates=_near_groups(examples),
        leaks=tuple(leaks),
        smallest=sizes[0],
        largest=sizes[-1],
        notes=(*listing.notes, *_notes(dataset, listing)),
    )
    return dataset, report


def readable_images(
    listing: Listing, *, bad_images: str = "skip", cache: InspectionCache | None = None
) -> tuple[tuple[Example, ...], tuple[BadFile, ...]]:
    """Every file of a listing that can be read, copies and contradictions included.

    Args:
        listing: from a reader.
        bad_images: "skip" unreadable files, or "fail" at the first look.
        cache: where inspections are kept.

    Returns:
        The images in the listing's order, each its own group, and the files that cannot be used.

    Raises:
        TltoolError: no image, or unreadable files under "fail" or beyond one in ten.
    """
    cache = MemoryCache() if cache is None else cache
    readable, bad = _read_all(listing, bad_images, cache)
    if not readable:
        raise TltoolError(f"{listing.source} has no image that can be read.")
    return tuple(
        Example(s.entry.path, s.entry.name, s.entry.label, s.hash, s.hash, s.entry.split)
        for s in readable
    ), bad


def _read_all(
    listing: Listing, bad_images: str, cache: InspectionCache
) -> tuple[list[_Seen], tuple[BadFile, ...]]:
    """What was seen of every file that can be read, and the others."""
    check_option("--bad-images", bad_images, ("skip", "fail"))
    if not listing.entries and not listing.bad:
        raise TltoolError(f"{listing.source} holds no image files; {_ignored_phrase(listing)}.")
    seen: list[_Seen] = []
    with progress("checking", len(listing.entries)) as advance:
        for chunk in _look_at(listing.entries, cache):
            seen.extend(chunk)
            advance(len(chunk))
    bad = listing.bad + tuple(BadFile(s.entry.name, s.reason) for s in seen if s.reason)
    _refuse_bad(listing, bad, bad_images)
    return [s for s in seen if not s.reason], bad


def _look_at(entries: Sequence[Entry], cache: InspectionCache) -> Iterator[list[_Seen]]:
    """Hash and inspect the entries' files, chunk by chunk, on all cores.

    A file that is not known is read twice, to hash it and to decode it: to keep a chunk's bytes in
    between would take gigabytes for phone photos, and the system caches what it read.
    """
    with ThreadPoolExecutor(cores()) as pool:
        remaining = iter(entries)
        while chunk := list(islice(remaining, _CHUNK)):
            hashes = list(pool.map(_hash_file, chunk))
            known = cache.inspections([h for h, _ in hashes if h])
            unknown = {
                h: entry
                for entry, (h, _) in zip(chunk, hashes, strict=True)
                if h and h not in known
            }
            looked = pool.map(_inspect_file, unknown.values(), unknown)
            found = dict(zip(unknown, looked, strict=True))
            fresh = {h: i for h, i in found.items() if isinstance(i, Inspection)}
            cache.add_inspections(fresh)
            seen = []
            for entry, (h, reason) in zip(chunk, hashes, strict=True):
                outcome = found.get(h) or known.get(h)
                if isinstance(outcome, Inspection):
                    facts = Inspection(outcome.width, outcome.height, outcome.perceptual_hash)
                    seen.append(_Seen(entry, h, facts))
                else:
                    seen.append(_Seen(entry, h, None, outcome or reason))
            yield seen


def _hash_file(entry: Entry) -> tuple[bytes, str]:
    try:
        if not stat.S_ISREG(entry.path.stat().st_mode):
            return b"", "is not a regular file"
        with entry.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest(), ""
    except OSError as error:
        return b"", _os_reason(error)


def _inspect_file(entry: Entry, content: bytes) -> Inspection | str:
    """What the file of that SHA-256 shows, or why it cannot be read."""
    try:
        data = entry.path.read_bytes()
        if hashlib.sha256(data).digest() != content:
            return "changed while it was being checked"
        return inspect(data)
    except UnreadableImageError as error:
        return str(error)
    except OSError as error:
        return _os_reason(error)


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be opened ({os.strerror(error.errno) if error.errno else error})"


def _refuse_bad(listing: Listing, bad: Sequence[BadFile], bad_images: str) -> None:
    for file in bad[:_MOST_NAMED]:
        _log.warning("%s: %s", file.file, file.reason)
    if len(bad) > _MOST_NAMED:
        _log.warning("and %d more", len(bad) - _MOST_NAMED)
    n_files = len(listing.entries) + len(listing.bad)
    if bad and bad_images == "fail":
        raise TltoolError(
            f"{len(bad)} of {n_files} image files in {listing.source} cannot be used, the first "
            f"is {bad[0].file}, which {bad[0].reason}; mend or remove them, or use "
            "--bad-images skip."
        )
    if len(bad) > _LARGEST_BAD_SHARE * n_files:
        raise TltoolError(
            f"{len(bad)} of {n_files} image files in {listing.source} cannot be used, more than "
            f"one in ten; the first is {bad[0].file}, which {bad[0].reason}; mend or remove the "
            "files listed above."
        )


def _refuse_classes(dataset: Dataset, listing: Listing, contradictions: Iterable[set[str]]) -> None:
    if len(dataset.labels) < 2:
        raise TltoolError(
            f"{dataset.source} has one class, {dataset.labels[0]!r}; a classifier needs at least "
            "two, each in a folder of its own."
        )
    gone = sorted({e.label for e in listing.entries} - set(dataset.labels))
    if gone and any(gone[0] in labels for labels in contradictions):
        raise TltoolError(
            f"Class {gone[0]!r} has no image left: all are identical to images of other classes; "
            "remove the copies from one of them."
        )
    if gone:
        raise TltoolError(f"Class {gone[0]!r} has no usable image; add some, or remove the class.")
    if "train" in dataset.given_splits:
        lacking = sorted(
            {e.label for e in dataset.examples} - {e.label for e in dataset.of("train")}
        )
        if lacking:
            raise TltoolError(
                f"Class {lacking[0]!r} has images to test or validate on but none in train; add "
                "some there, or remove the class."
            )


def _contradictions(seen: Sequence[_Seen]) -> dict[bytes, set[str]]:
    """The labels of identical files, by hash, where they have several."""
    labels = defaultdict(set)
    for s in seen:
        labels[s.hash].add(s.entry.label)
    return {h: named for h, named in labels.items() if len(named) > 1}


def _without_leaks(seen: Sequence[_Seen]) -> tuple[list[_Seen], list[str]]:
    """Drop exact copies of given test images from val and train, and of val images from train."""
    rank = {split: i for i, split in enumerate(SPLITS)}
    latest: dict[bytes, int] = {}
    for s in seen:
        latest[s.hash] = max(latest.get(s.hash, -1), rank.get(s.entry.split, -1))
    kept = [s for s in seen if rank.get(s.entry.split, -1) == latest[s.hash]]
    leaks = [s.entry.name for s in seen if rank.get(s.entry.split, -1) != latest[s.hash]]
    return kept, leaks


def _count_classes(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(e.label for e in examples)
    return {label: counts[label] for label in labels}


def _file_groups(rows: Iterable[tuple[bytes, str]]) -> tuple[tuple[str, ...], ...]:
    """Names that share a key, as sorted groups of two or more."""
    groups = defaultdict(list)
    for key, name in rows:
        groups[key].append(name)
    return tuple(sorted(tuple(sorted(names)) for names in groups.values() if len(names) > 1))


def _near_groups(examples: Sequence[Example]) -> tuple[tuple[str, ...], ...]:
    """Groups of near-duplicates, one name for each distinct content."""
    first_name: dict[bytes, tuple[bytes, str]] = {}
    for e in examples:
        first_name.setdefault(e.hash, (e.group, e.name))
    return _file_groups(first_name.values())


def _notes(dataset: Dataset, listing: Listing) -> Iterator[str]:
    labels_of: dict[bytes, set[str]] = defaultdict(set)
    splits_of: dict[bytes, set[str]] = defaultdict(set)
    for e in dataset.examples:
        labels_of[e.group].add(e.label)
        splits_of[e.group].add(e.split)
    mixed = sum(len(labels) > 1 for labels in labels_of.values())
    if mixed:
        yield f"Near-duplicates with different labels: {counted(mixed, 'group')}; look at them."
    across = sum(len(splits) > 1 for splits in splits_of.values())
    if across:
        yield (
            f"Near-duplicates in several of the given splits: {counted(across, 'group')}; figures "
            "on them flatter the model."
        )
    lacking = {
        split: sorted(set(dataset.labels) - {e.label for e in dataset.of(split)}, key=natural_key)
        for split in dataset.given_splits
    }
    for split, labels in sorted(lacking.items()):
        if labels:
            yield f"The given {split} split has no image of {_listed(labels)}."


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _ignored_phrase(listing: Listing) -> str:
    if listing.ignored:
        return (
            f"it has other files ({kinds_in_words(listing.ignored)}), but images end in .jpg, "
            ".png, .webp and the like"
        )
    return "expected a folder of class folders with images in them"
