"""Image folders, the chapter's transforms, and CIFAR-10 from wherever it is to be had."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import urllib.error
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets
from torchvision.transforms import v2

Statistics = tuple[float, ...]
IMAGENET: tuple[Statistics, Statistics] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Profile:
    """How large the course's experiments are; chosen by the environment variable COURSE_PROFILE."""

    name: str
    model_name: str
    image_size: int  # pixels
    batch_size: int
    num_workers: int
    train_per_class: int
    val_per_class: int
    test_per_class: int


PROFILES = {
    "quick": Profile("quick", "efficientnet_lite0", 96, 64, 0, 200, 50, 100),
    "full": Profile("full", "resnet50", 224, 32, 4, 4500, 500, 1000),
}


def course_profile() -> Profile:
    """The profile that ``COURSE_PROFILE`` names, ``quick`` where it is not set.

    Raises
    ------
    ValueError
        The variable holds another name.
    """
    name = os.environ.get("COURSE_PROFILE", "quick")
    if name not in PROFILES:
        raise ValueError(f"COURSE_PROFILE is {name!r}; it can be {' or '.join(PROFILES)}")
    return PROFILES[name]


# ---- transforms ------------------------------------------------------------------------------------


def train_transform(size: int = 224, mean: Statistics = IMAGENET[0], std: Statistics = IMAGENET[1]) -> v2.Compose:
    """The chapter's training transform: random crop, flip, rotation and colour, then normalise.

    Parameters
    ----------
    size : int
        Side of the square result, in pixels.
    mean, std : tuple of float
        Per channel, for images in [0, 1]; :func:`~course_lib.normalization` gives a model's own.

    Returns
    -------
    v2.Compose
        PIL image, uint8 tensor or float tensor in [0, 1], (3, H, W), to float32 (3, size, size).
    """
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(15),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )


def val_transform(size: int = 224, mean: Statistics = IMAGENET[0], std: Statistics = IMAGENET[1]) -> v2.Compose:
    """The chapter's validation transform: resize to 256/224 of ``size``, crop the centre, normalise.

    Parameters and result as in :func:`train_transform`; nothing in it is random.
    """
    return v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(round(size * 256 / 224), antialias=True),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )


# ---- image folders ---------------------------------------------------------------------------------


def read_image(path: str | Path) -> torch.Tensor:
    """Read an image file with its full range.

    Parameters
    ----------
    path : str or Path
        Any format that Pillow reads, grey or colour, 8 or 16 bits a channel.

    Returns
    -------
    Tensor
        Shape (3, H, W). 8-bit images as uint8; 16-bit grey images as float32 in [0, 1], since Pillow's
        own conversion to RGB clips them to 8 bits.

    Raises
    ------
    ValueError
        The file is no image, is damaged, or has a kind of pixel that has no fixed range.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith("I"):
                pixels = torch.from_numpy(np.asarray(image).astype(np.float32)) / 65535
                if pixels.min() < 0 or pixels.max() > 1:
                    raise ValueError(f"{path}: values beyond 16 bits; rescale the image to 0..65535 first")
                return pixels.expand(3, -1, -1).contiguous()
            if image.mode == "F":
                raise ValueError(f"{path}: floating-point pixels have no fixed range; save the image as 16-bit")
            return v2.functional.pil_to_tensor(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image that Pillow can read; remove it from the data folder") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}") from error
        raise ValueError(f"{path} is damaged ({error}); replace or remove it") from error


def image_folders(root: str | Path, transforms: dict[str, Callable | None]) -> dict[str, datasets.ImageFolder]:
    """Open ``root/SPLIT/CLASS/*`` for each split, and check that the splits agree.

    Parameters
    ----------
    root : str or Path
        Folder that holds one folder a split, each with one folder a class.
    transforms : dict
        Transform of each split, such as ``{"train": train_transform(), "val": val_transform()}``.

    Returns
    -------
    dict of str to ImageFolder
        Items are (transformed image, class index).

    Raises
    ------
    FileNotFoundError
        A split or class folder is missing, or a class has no image.
    ValueError
        The splits have different classes, which would give the same label to different things.
    """
    root = Path(root)
    result: dict[str, datasets.ImageFolder] = {}
    for split, transform in transforms.items():
        folder = root / split
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; expected {root}/{{{','.join(transforms)}}}/CLASS/IMAGE")
        if not any(p.is_dir() for p in folder.iterdir()):
            raise FileNotFoundError(f"{folder} has no class folders; expected {folder}/CLASS/IMAGE")
        # ImageFolder itself names the class folders that hold no image
        result[split] = datasets.ImageFolder(folder, transform=transform, loader=read_image)
    first, *others = result
    for split in others:
        if result[split].classes != result[first].classes:
            odd = sorted(set(result[split].classes) ^ set(result[first].classes))
            raise ValueError(f"{root}: {first} and {split} have different classes: {', '.join(odd)} are in one only")
    return result


def make_loader(
    dataset: Dataset, *, batch_size: int = 32, shuffle: bool = False, num_workers: int = 4, seed: int = 0
) -> DataLoader:
    """A DataLoader with a random generator of its own, so that its order depends on ``seed`` alone.

    Parameters
    ----------
    dataset : Dataset
        Items are (image, label).
    batch_size : int
        Images in a batch; the last batch may be smaller.
    shuffle : bool
        True for training data.
    num_workers : int
        Processes that prepare batches; 0 prepares them in this process.
    seed : int
        Seed of the order, and of the workers' random transforms.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )


def stratified_subset(dataset: datasets.ImageFolder, per_class: int, seed: int = 0) -> Subset:
    """Draw the same number of images from each class.

    Parameters
    ----------
    dataset : ImageFolder
        Anything with ``targets`` and ``classes``.
    per_class : int
        Images of each class.
    seed : int
        Seed of the draw. A larger subset with the same seed contains the smaller one.

    Raises
    ------
    ValueError
        A class has fewer images than asked for; the message names it.
    """
    targets, generator = torch.tensor(dataset.targets), torch.Generator().manual_seed(seed)
    chosen: list[int] = []
    for label, name in enumerate(dataset.classes):
        members = (targets == label).nonzero().flatten()
        if not 1 <= per_class <= len(members):
            raise ValueError(f"class {name} has {len(members)} images; per_class={per_class} must be from 1 to that")
        chosen += members[torch.randperm(len(members), generator=generator)[:per_class]].tolist()
    return Subset(dataset, sorted(chosen))


# ---- CIFAR-10 --------------------------------------------------------------------------------------

Pictures = dict[str, dict[str, list[bytes]]]  # split -> class -> image files


class ImageData(NamedTuple):
    """A prepared image folder and the name of what is in it."""

    folder: Path
    name: str


def cache_home() -> Path:
    """Folder for prepared data: ``$COURSE_CACHE``, or ``.cache/course_lib`` in the user's home."""
    return Path(os.environ.get("COURSE_CACHE") or Path.home() / ".cache" / "course_lib")


def prepare_cifar10(
    *, train_per_class: int = 200, val_per_class: int = 50, test_per_class: int = 100, seed: int = 0
) -> ImageData:
    """Write a part of CIFAR-10 as ``{train,val,test}/CLASS/*``, from wherever it is to be had.

    Looked for in this order: ``$COURSE_DATA/cifar10/{train,test}/CLASS/*``,
    ``$COURSE_DATA/cifar10-jpeg.tar.xz``, torchvision's own format in ``$COURSE_DATA`` or the cache folder,
    torchvision's download. Without any, scikit-learn's handwritten digits stand in, and a line says so.
    Training and validation images come from the data set's training part, test images from its test part.
    What was written is used again the next time.

    Parameters
    ----------
    train_per_class, val_per_class, test_per_class : int
        Images of each class. Where a source has fewer, all three shrink by the same factor.
    seed : int
        Seed of the draw.

    Returns
    -------
    ImageData
        The folder, and a name for the data that belongs beside every number measured on it.

    Notes
    -----
    CIFAR-10: A. Krizhevsky, Learning multiple layers of features from tiny images (2009).
    """
    wanted = {"train": train_per_class, "val": val_per_class, "test": test_per_class}
    name, key, read = _find_source()
    folder = cache_home() / f"{key}-{train_per_class}-{val_per_class}-{test_per_class}-seed{seed}"
    if not folder.is_dir():
        _write_split(folder, read(), wanted, seed)
    counts = {s: sum(1 for _ in (folder / s).glob("*/*")) for s in wanted}
    print(f"data: {name}; " + ", ".join(f"{n:,} {s}" for s, n in counts.items()) + " images")
    return ImageData(folder, name)


def _find_source() -> tuple[str, str, Callable[[], Pictures]]:
    """Name of the first source there is, a key for its prepared folder, and a function that reads it."""
    home = os.environ.get("COURSE_DATA")
    if home and (Path(home) / "cifar10" / "train").is_dir():
        # the folder may be anybody's pictures, so the name claims no more than where they are
        return "CIFAR-10 (image folder)", "cifar10-folder", lambda: _read_tree(Path(home) / "cifar10")
    if home and (Path(home) / "cifar10-jpeg.tar.xz").is_file():
        return "CIFAR-10 (JPEG copy)", "cifar10-jpeg", lambda: _read_archive(Path(home) / "cifar10-jpeg.tar.xz")
    for place in filter(None, (home, cache_home())):
        if (Path(place) / "cifar-10-batches-py").is_dir():
            return "CIFAR-10", "cifar10", lambda place=place: _read_torchvision(Path(place), download=False)
    try:
        cache_home().mkdir(parents=True, exist_ok=True)
        pictures = _read_torchvision(cache_home(), download=True)
        return "CIFAR-10", "cifar10", lambda: pictures
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        print(
            f"CIFAR-10 is neither on this machine nor to be downloaded ({error}): using scikit-learn's digits instead"
        )
        print("  to use CIFAR-10, set COURSE_DATA to the folder that holds it (see the set-up page)")
    return "handwritten digits (scikit-learn)", "digits", _read_digits


def _read_tree(root: Path) -> Pictures:
    pictures: Pictures = {}
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise FileNotFoundError(f"{root} has no folder {split}; expected {root}/{{train,test}}/CLASS/IMAGE")
        pictures[split] = {
            d.name: [p.read_bytes() for p in sorted(d.iterdir()) if p.is_file()]
            for d in sorted((root / split).iterdir())
            if d.is_dir()
        }
    return pictures


def _read_archive(path: Path) -> Pictures:
    members: dict[str, bytes] = {}
    with tarfile.open(path, "r:xz") as archive:  # in memory, never unpacked: member names write nowhere
        for member in archive:
            if member.isfile():
                members[member.name.removeprefix("./")] = archive.extractfile(member).read()
    pictures: Pictures = {"train": defaultdict(list), "test": defaultdict(list)}
    for name in sorted(members):
        split, label, _ = name.split("/")
        pictures[split][label].append(members[name])
    return pictures


def _read_torchvision(root: Path, *, download: bool) -> Pictures:
    pictures: Pictures = {}
    for split in ("train", "test"):
        source = datasets.CIFAR10(root, train=split == "train", download=download)
        pictures[split] = _encode(zip(source.data, (source.classes[t] for t in source.targets), strict=True))
    return pictures


def _read_digits() -> Pictures:
    from sklearn.datasets import load_digits  # only where nothing else is there

    digits = load_digits()
    images = (digits.images * (255 / 16)).astype("uint8")  # 8 x 8 pixels, values 0 to 16
    everything = _encode(zip(images, (f"digit_{t}" for t in digits.target), strict=True))
    # the data set has no test part of its own: every third image
    return {
        "train": {c: [p for i, p in enumerate(ps) if i % 3] for c, ps in everything.items()},
        "test": {c: ps[::3] for c, ps in everything.items()},
    }


def _encode(samples: Iterable[tuple[np.ndarray, str]]) -> dict[str, list[bytes]]:
    result: dict[str, list[bytes]] = defaultdict(list)
    for pixels, label in samples:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")  # lossless
        result[label].append(buffer.getvalue())
    return result


def _write_split(folder: Path, pictures: Pictures, wanted: dict[str, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    train_have = min(len(v) for v in pictures["train"].values())
    test_have = min(len(v) for v in pictures["test"].values())
    factor = min(1.0, train_have / (wanted["train"] + wanted["val"]), test_have / wanted["test"])
    take = {split: max(1, int(n * factor)) for split, n in wanted.items()}
    if factor < 1:
        print(f"the data set is small: {take} images a class instead of {wanted}")
    # into a temporary folder first: an interrupted run leaves no half-filled data set behind
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix="writing-"))
    try:
        for label in sorted(pictures["train"]):
            chosen = _draw(pictures["train"][label], take["train"] + take["val"], generator)
            parts = {
                "train": chosen[: take["train"]],
                "val": chosen[take["train"] :],
                "test": _draw(pictures["test"][label], take["test"], generator),
            }
            for split, images in parts.items():
                target = temporary / split / label
                target.mkdir(parents=True)
                for number, image in enumerate(images):
                    suffix = ".png" if image.startswith(b"\x89PNG") else ".jpg"
                    (target / f"{number:04d}{suffix}").write_bytes(image)
        if not folder.is_dir():  # another notebook may have been faster
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _draw(items: list[bytes], count: int, generator: torch.Generator) -> list[bytes]:
    return [items[i] for i in torch.randperm(len(items), generator=generator)[:count].tolist()]
