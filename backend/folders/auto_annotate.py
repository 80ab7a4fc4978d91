"""`maskal auto-annotate`: a folder of images outlined by a network, in the format of an annotation tool."""

from __future__ import annotations

import filecmp
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from errno import ENAMETOOLONG
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Semaphore
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from tqdm import tqdm

from backend.errors import BadSetting
from backend.folders.annotation_store import FilesBesideImages, OneFile, Store
from backend.folders.task_files import LOCAL_FILES, label_studio_output
from backend.label_studio.predictions import instances_to_outlines
from backend.project.folder import ProjectFolder, connected_projects, find_folder
from backend.rounds.devices import choose_device
from backend.rounds.scoring import LOADERS, images_at_once, smoothed
from backend.settings import Settings
from model.engines.base import Engine, EngineConfig
from model.engines.loader import load_alone, load_version
from model.errors import BadImageFile, BadRecord
from model.files import write_atomically
from model.formats.layout import written_path
from model.formats.table import Output, format_for
from model.image_files import IMAGE_SUFFIXES, OTHER_SUFFIXES, Depths, decode_image
from model.instances import Instances
from model.records import Record
from model.training.showings import read_ahead


@dataclass(frozen=True)
class AutoAnnotateOptions:
    """The options of `maskal auto-annotate`.

    export_format   a key of FORMATS, or "labelstudio"
    weights         a checkpoint; what it does not tell of itself is in network_config and classes
    project_id      instead: a connected project, of which `version` (None: the served one)
    conf_thres, nms_thres   None: the project's own; with a checkpoint 0.5 and 0.2, as in MaskAL
    out             where the annotations go; None: beside the images
    image_root_url  what Label Studio's image addresses begin with; None: its local files, served from img_dir's parent
    """

    img_dir: Path
    export_format: str
    weights: Path | None = None
    version: str | None = None
    project_id: int | None = None
    network_config: str | None = None
    classes: tuple[str, ...] = ()
    conf_thres: float | None = None
    nms_thres: float | None = None
    supervisely_meta_json: Path | None = None
    image_root_url: str | None = None
    out: Path | None = None
    overwrite: bool = False
    device: str | None = None


@dataclass
class Annotated:
    """What came of it: images outlined now and before, objects found now, and a line for each image left out."""

    images: int = 0
    before: int = 0
    objects: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Network:
    """An engine, and what tells it from others: a name for people and a hash of its weights.

    any_class   whether an object needs its score from all classes together, as for the pre-labels of a project
    """

    engine: Engine
    name: str
    sha256: str
    any_class: bool = False

    def decode(self, encoded: Any) -> Instances:
        """The objects of an image."""
        return self.engine.decode(encoded, any_class=self.any_class)


@dataclass(frozen=True)
class _Copies:
    """Copies of a folder's images in `out`, of those that the tool wants there."""

    folder: Path
    out: Path
    form: Output
    overwrite: bool

    def lacking(self, image: str) -> Path | None:
        """Where the tool wants a copy of an image that is not there; BadRecord if another image is."""
        source, target = self.folder / image, self.out / self.form.image_path(image)
        if not self.form.wants_images:
            return None
        if target.exists() and (target.samefile(source) or filecmp.cmp(source, target, shallow=False)):
            return None
        if target.exists() and not self.overwrite:
            raise BadRecord(f"{target} is another image than {source}; give another --out, or --overwrite")
        return target

    def bring(self, image: str, target: Path | None) -> None:
        """Copy an image to where it is lacking, if anywhere."""
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, (self.folder / image).read_bytes())


def auto_annotate(settings: Settings, options: AutoAnnotateOptions) -> Annotated:
    """Outline all images of the folder and its subfolders that are not outlined yet.

    What is done is kept at once, so that a stopped run goes on where it was. Images that cannot be read are left out.
    Raises BadSetting, BadCheckpoint, BadEngine, BadVersion, NotFound or BadRecord.
    """
    network = _network(settings, options)
    form, out = _output(options, network.name), (options.out or options.img_dir).resolve()
    if out == options.img_dir.resolve() and form.image_path("a.jpg") != "a.jpg":
        raise BadSetting(f"{form.title}: its folders cannot lie among the images; give another folder with --out")
    result, depths = Annotated(), Depths()
    images = _images(options.img_dir, out, form, result.problems)
    store = _store(network, form, out, options)
    copies = _Copies(options.img_dir, out, form, options.overwrite)
    waiting = _waiting(images, store, copies, result)

    def keep(record: Record) -> None:
        target = copies.lacking(record.image)
        store.add(record)
        copies.bring(record.image, target)

    with tqdm(desc="outlining", unit="image", total=len(images), initial=result.before) as bar:
        for done in _outlined(network, partial(_load, settings, options.img_dir, depths), waiting, keep):
            if isinstance(done, str):
                result.problems.append(done)
            else:
                result.objects += len(done.outlines)
                result.images += 1
            bar.update()
    store.finish(images)
    if depths.warning:
        result.problems.append(depths.warning)
    return result


def _network(settings: Settings, options: AutoAnnotateOptions) -> _Network:
    """The engine that the options name, on its device."""
    device = choose_device(options.device)
    wanted = {"confidence_threshold": options.conf_thres, "nms_threshold": options.nms_thres}
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if options.weights is not None:
        if options.version is not None or options.project_id is not None:
            raise BadSetting("give either --weights or a version of a project (--version, --project)")
        engine = load_alone(options.weights, EngineConfig(**given), options.network_config, options.classes)
        sha256 = hashlib.sha256(options.weights.read_bytes()).hexdigest()
        return _Network(engine.to(device), options.weights.stem, sha256)
    folder = _folder(settings, options.project_id)
    registry = folder.registry
    name = options.version or registry.current()
    if name is None:
        raise BadSetting("the project has no version yet; give --weights, or wait for its first round")
    version = registry.get(name)
    engine = load_version(registry, version, replace(folder.config().engine_config(device), **given))
    return _Network(engine.to(device), name, version.weights_sha256, any_class=True)


def _folder(settings: Settings, project_id: int | None) -> ProjectFolder:
    """The folder of the project; without a number that of the only one."""
    if project_id is not None:
        return find_folder(settings.data_dir, project_id)
    folders = connected_projects(settings.data_dir)
    if len(folders) != 1:
        numbers = ", ".join(str(folder.project_id) for folder in folders) or "none"
        raise BadSetting(f"connected projects: {numbers}; choose one with --project, or give --weights")
    return folders[0]


def _output(options: AutoAnnotateOptions, version: str) -> Output:
    if options.export_format == "labelstudio":
        root = options.image_root_url or f"{LOCAL_FILES}{quote(options.img_dir.resolve().name)}"
        return label_studio_output(root, version)
    return format_for(options.export_format, options.supervisely_meta_json)


def _store(network: _Network, form: Output, out: Path, options: AutoAnnotateOptions) -> Store:
    classes = network.engine.classes
    if not form.is_one_file:
        return FilesBesideImages(form, out, classes, overwrite=options.overwrite)
    config = network.engine.config
    thresholds = {"conf_thres": config.confidence_threshold, "nms_thres": config.nms_threshold}
    settings = {"weights": network.sha256, "classes": classes, **thresholds}
    return OneFile(form, out, classes, settings, overwrite=options.overwrite)


def _images(folder: Path, out: Path, form: Output, problems: list[str]) -> list[str]:
    """POSIX paths of the images below a folder, in a stable order, without hidden files and what lies in `out`.

    Of two images whose annotations would be one file, the second is a problem; images of kinds that are not taken are
    one problem all together. BadSetting if there is no image.
    """
    claimed: dict[str, str] = {}
    others: Counter[str] = Counter()
    for path in _files(folder, out, form.mask_folder):
        name, suffix = path.relative_to(folder).as_posix(), path.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            others += Counter([suffix] if suffix in OTHER_SUFFIXES else [])
            continue
        place = name if form.is_one_file else form.annotation_path(name)
        try:
            written_path(folder, name)
            if place in claimed:
                raise BadRecord(
                    f"{path} and {folder / claimed[place]} would have one annotation file; rename one of them"
                )
            claimed[place] = name
        except BadRecord as err:
            problems.append(str(err))
    if others:
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in sorted(others.items()))
        problems.append(f"left out images of kinds that are not taken: {kinds}; convert them to PNG or JPEG")
    if not claimed:
        reasons = "; ".join(problems) or ", ".join(IMAGE_SUFFIXES)
        raise BadSetting(f"{folder} holds no image ({reasons}); give the folder of the images")
    return list(claimed.values())


def _files(folder: Path, out: Path, mask_folder: str | None) -> Iterator[Path]:
    """All files and broken links below a folder in order, without hidden ones, masks and what lies in `out`."""
    is_below = out != folder.resolve() and out.is_relative_to(folder.resolve())
    for path in sorted(folder.rglob("*")):
        is_output = is_below and path.parent.resolve().is_relative_to(out)
        is_hidden = any(part.startswith(".") or part == mask_folder for part in path.relative_to(folder).parts)
        if not is_output and not is_hidden and (path.is_file() or (path.is_symlink() and not path.exists())):
            yield path


def _waiting(images: Sequence[str], store: Store, copies: _Copies, result: Annotated) -> list[str]:
    """The images that are not outlined yet; of the others it is made sure that the tool has its copy."""
    waiting = []
    for image in images:
        try:
            if store.has(image):
                copies.bring(image, copies.lacking(image))  # unless a stopped run did
                result.before += 1
            else:
                waiting.append(image)
        except BadRecord as err:
            result.problems.append(str(err))
    return waiting


def _outlined(
    network: _Network,
    load: Callable[[str], np.ndarray | str],
    images: Sequence[str],
    keep: Callable[[Record], None],
) -> Iterator[Record | str]:
    """What came of each image, in their order: its record, or a line that says why there is none.

    Threads take some images each, all the way from the file to what is kept. On a CPU each computes with its share of
    the cores, which wastes less than all cores on one image after the other; a GPU serves one thread at a time.
    """
    engine, cores = network.engine, torch.get_num_threads()
    is_gpu = next(engine.network.parameters()).device.type == "cuda"
    at_once = images_at_once(engine)
    threads = LOADERS if is_gpu else min(cores, LOADERS)
    turn = Semaphore(1 if is_gpu else threads)

    def outline(names: Sequence[str]) -> list[Record | str]:
        torch.set_num_threads(max(1, cores // threads))  # this thread's own
        loaded = {name: load(name) for name in names}
        readable = {name: pixels for name, pixels in loaded.items() if isinstance(pixels, np.ndarray)}
        problems = {name: problem for name, problem in loaded.items() if isinstance(problem, str)}
        with turn:
            encoded = dict(zip(readable, engine.encode(list(readable.values())), strict=True))
        records: dict[str, Record | str] = {}
        for name in readable:
            with turn:
                found = network.decode(encoded.pop(name))
            records[name] = _kept(name, found, engine.classes, keep)
        return [(records | problems)[name] for name in names]

    shares = (images[start : start + at_once] for start in range(0, len(images), at_once))
    try:
        for done in read_ahead(shares, threads, outline, threads):
            yield from chain.from_iterable(done)
    finally:
        torch.set_num_threads(cores)  # also of threads to come


def _load(settings: Settings, folder: Path, depths: Depths, name: str) -> np.ndarray | str:
    """An image RGB uint8 (h, w, 3), or why it cannot be read."""
    path = folder / name
    try:
        return decode_image(path.read_bytes(), str(path), settings.max_image_megapixels, depths)
    except OSError as err:
        return f"{path} cannot be read ({err.strerror}); check its access rights"
    except BadImageFile as err:
        return str(err)


def _kept(name: str, found: Instances, classes: tuple[str, ...], keep: Callable[[Record], None]) -> Record | str:
    """The record of one image, which is kept, or why it cannot be."""
    try:
        record = Record(name, found.size_hw, instances_to_outlines(smoothed(found), classes))
        keep(record)
    except BadRecord as err:
        return str(err)
    except OSError as err:
        if err.errno != ENAMETOOLONG:
            raise
        return f"{err.filename} is too long a name; rename the image"
    return record
