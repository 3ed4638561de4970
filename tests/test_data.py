"""Transforms, image folders with what students put into them, and CIFAR-10's places."""

from __future__ import annotations

import io
import pickle
import tarfile
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from course_lib import (
    course_profile,
    image_folders,
    make_loader,
    prepare_cifar10,
    read_image,
    stratified_subset,
    train_transform,
    val_transform,
)

# ---- transforms ----


def kinds(transform: v2.Compose) -> list[str]:
    return [type(t).__name__ for t in transform.transforms]


def test_the_transforms_are_the_chapters():
    train, val = train_transform(), val_transform()
    assert kinds(train) == [
        "ToImage", "RandomResizedCrop", "RandomHorizontalFlip", "RandomRotation", "ColorJitter", "ToDtype", "Normalize",
    ]  # fmt: skip
    _, crop, flip, rotation, jitter, _, normalize = train.transforms
    assert tuple(crop.size) == (224, 224)
    assert flip.p == 0.5
    assert rotation.degrees == [-15.0, 15.0]
    assert tuple(jitter.brightness) == tuple(jitter.contrast) == (0.8, 1.2)
    assert (jitter.saturation, jitter.hue) == (None, None)
    assert tuple(normalize.mean) == (0.485, 0.456, 0.406)
    assert tuple(normalize.std) == (0.229, 0.224, 0.225)
    assert kinds(val) == ["ToImage", "Resize", "CenterCrop", "ToDtype", "Normalize"]
    assert list(val.transforms[1].size) == [256]
    assert tuple(val.transforms[2].size) == (224, 224)


@pytest.mark.parametrize("make", [train_transform, val_transform])
@pytest.mark.parametrize("kind", ["pil", "uint8", "float"])
def test_any_image_gives_normalised_floats_of_the_right_size(make, kind):
    pixels = torch.full((3, 40, 60), 255, dtype=torch.uint8)
    image = {"pil": v2.functional.to_pil_image(pixels), "uint8": pixels, "float": pixels / 255}[kind]
    result = make(96, (0.5,) * 3, (0.5,) * 3)(image)
    assert result.shape == (3, 96, 96)
    assert result.dtype == torch.float32
    if make is val_transform:
        assert torch.allclose(result, torch.ones(()))  # white, normalised with 0.5: exactly 1


def test_validation_is_deterministic_and_training_is_not():
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    assert torch.equal(val_transform(32)(image), val_transform(32)(image))
    transform = train_transform(32)
    assert not torch.equal(transform(image), transform(image))


# ---- reading images ----


def test_16_bit_images_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 10_000).astype(np.uint16).reshape(100, 100)
    for suffix in ("png", "tif"):
        Image.fromarray(ramp).save(tmp_path / f"ramp.{suffix}")
        image = read_image(tmp_path / f"ramp.{suffix}")
        assert image.shape == (3, 100, 100)
        assert image.dtype == torch.float32
        assert len(image[0].unique()) == len(np.unique(ramp))  # PIL's convert("RGB") leaves 17 levels
        assert (image.min(), image.max()) == (0.0, 1.0)
        val_transform(32)(image)  # goes through


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new(mode, (7, 5)).save(path)
    assert read_image(path).shape == (3, 5, 7)
    assert read_image(path).dtype == torch.uint8


def test_one_pixel(tmp_path):
    Image.new("L", (1, 1), 9).save(tmp_path / "x.png")
    assert val_transform(32)(read_image(tmp_path / "x.png")).shape == (3, 32, 32)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32)).save(tmp_path / "wide.tif")
    for name in ("text.png", "cut.png", "float.tif", "wide.tif"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_image(tmp_path / "absent.png")


# ---- folders ----


@pytest.fixture
def tree(tmp_path):
    for split in ("train", "val"):
        for value, label in enumerate(("cat", "dog")):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(5):
                Image.new("RGB", (8, 8), (i, value, 0)).save(tmp_path / split / label / f"{i}.png")
    return tmp_path


def test_folders(tree):
    data = image_folders(tree, {"train": None, "val": val_transform(8)})
    assert data["train"].classes == ["cat", "dog"]
    assert len(data["val"]) == 10
    assert data["val"][9][1] == 1


def test_different_classes_are_an_error(tree):
    (tree / "val" / "dog").rename(tree / "val" / "fox")
    with pytest.raises(ValueError, match="dog, fox"):
        image_folders(tree, {"train": None, "val": None})


def test_missing_and_empty_folders(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match="test"):
        image_folders(tree, {"train": None, "test": None})
    (tree / "train" / "bird").mkdir()
    with pytest.raises(FileNotFoundError, match="bird"):
        image_folders(tree, {"train": None})
    (tree / "flat").mkdir()
    with pytest.raises(FileNotFoundError, match="no class folders"):
        image_folders(tree, {"flat": None})


def test_loader_order_depends_on_its_seed_alone(tree):
    data = image_folders(tree, {"train": val_transform(8)})["train"]

    def order(seed: int) -> list[float]:
        return [x[0].item() for batch, _ in make_loader(data, batch_size=3, shuffle=True, num_workers=0, seed=seed)
                for x in batch.flatten(1)]  # fmt: skip

    first = order(1)
    state = torch.random.get_rng_state()
    assert order(1) == first != order(2)
    assert torch.equal(state, torch.random.get_rng_state())  # iterating drew nothing from the global generator


def test_subset_is_stratified_seeded_and_nested(tree):
    data = image_folders(tree, {"train": None})["train"]
    small, large = stratified_subset(data, 2, seed=4), stratified_subset(data, 4, seed=4)
    assert [data.targets[i] for i in small.indices] == [0, 0, 1, 1]
    assert set(small.indices) < set(large.indices)
    assert small.indices == stratified_subset(data, 2, seed=4).indices
    assert any(stratified_subset(data, 2, seed=s).indices != small.indices for s in range(5))
    for count in (0, 6):
        with pytest.raises(ValueError, match="class cat has 5 images"):
            stratified_subset(data, count)


# ---- profile ----


def test_profile(monkeypatch):
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    assert course_profile().name == "quick"
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert course_profile().model_name == "resnet50"
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    with pytest.raises(ValueError, match="'fast'; it can be quick or full"):
        course_profile()


# ---- CIFAR-10 and its stand-in ----


def picture(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (value, value, value)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty COURSE_DATA and COURSE_CACHE, and no network."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return tmp_path / "data"


def counts(folder) -> dict[str, int]:
    return {split: len(list((folder / split).glob("*/*"))) for split in ("train", "val", "test")}


def put_folder(home):
    for split, n in (("train", 6), ("test", 3)):
        for label in ("cat", "ship"):
            (home / "cifar10" / split / label).mkdir(parents=True)
            for i in range(n):
                (home / "cifar10" / split / label / f"{i}.jpg").write_bytes(picture(10 * i, "JPEG"))


def put_archive(home):
    with tarfile.open(home / "cifar10-jpeg.tar.xz", "w:xz") as archive:
        for split, n in (("train", 6), ("test", 3)):
            for label in ("cat", "ship"):
                for i in range(n):
                    content = picture(10 * i, "JPEG")
                    info = tarfile.TarInfo(f"{split}/{label}/{i:04d}.jpg")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def put_torchvision(home, monkeypatch):
    """torchvision's format with two images a class in each of its files; its checksums are of the real data."""
    folder = home / "cifar-10-batches-py"
    folder.mkdir()
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)
    names = [f"class{i}" for i in range(10)]
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        labels = list(range(10)) * 2
        content = {"data": np.zeros((20, 3072), dtype=np.uint8), "labels": labels}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))


WANTED = {"train_per_class": 4, "val_per_class": 2, "test_per_class": 3}


def test_places_are_tried_in_order(home, monkeypatch, capsys):
    put_torchvision(home, monkeypatch)
    small = {"train_per_class": 4, "val_per_class": 2, "test_per_class": 2}
    assert prepare_cifar10(**small).name == "CIFAR-10"
    put_archive(home)
    assert prepare_cifar10(**WANTED).name == "CIFAR-10 (JPEG copy)"
    put_folder(home)
    data = prepare_cifar10(**WANTED)
    assert data.name == "CIFAR-10 (image folder)"
    assert counts(data.folder) == {"train": 8, "val": 4, "test": 6}
    assert "CIFAR-10 (image folder); 8 train, 4 val, 6 test images" in capsys.readouterr().out


def test_splits_share_no_training_image_and_the_draw_is_seeded(home):
    put_archive(home)
    data = prepare_cifar10(**WANTED)
    for label in ("cat", "ship"):
        contents = [p.read_bytes() for split in ("train", "val") for p in (data.folder / split / label).iterdir()]
        assert len(set(contents)) == 6
    first = sorted(p.read_bytes() for p in (data.folder / "val").glob("*/*"))
    others = [
        sorted(p.read_bytes() for p in (prepare_cifar10(**WANTED, seed=s).folder / "val").glob("*/*"))
        for s in range(1, 6)
    ]
    assert any(o != first for o in others)


def test_what_was_prepared_is_used_again(home, monkeypatch):
    put_archive(home)
    folder = prepare_cifar10(**WANTED).folder
    monkeypatch.setattr("course_lib.data._read_archive", lambda path: pytest.fail("read again"))
    assert prepare_cifar10(**WANTED).folder == folder


def test_an_interrupted_preparation_leaves_nothing_behind(home, monkeypatch):
    put_archive(home)
    monkeypatch.setattr("course_lib.data.os.replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare_cifar10(**WANTED)
    assert list((home.parent / "cache").iterdir()) == []


def test_without_cifar10_and_network_digits_say_so(home, capsys):
    data = prepare_cifar10(train_per_class=200, val_per_class=50, test_per_class=100)
    printed = capsys.readouterr().out
    assert "neither on this machine nor to be downloaded" in printed
    assert "COURSE_DATA" in printed
    assert "small" in printed
    assert data.name == "handwritten digits (scikit-learn)"
    assert "data: handwritten digits" in printed
    folders = image_folders(data.folder, dict.fromkeys(("train", "val", "test"), val_transform(32)))
    assert len(folders["train"].classes) == 10
    sizes = {split: np.bincount(f.targets).tolist() for split, f in folders.items()}
    assert all(len(set(s)) == 1 for s in sizes.values())  # still the same number of each class
    assert sizes["train"][0] > sizes["val"][0] > 0


def test_a_folder_without_its_test_part_is_named(home):
    (home / "cifar10" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no folder test"):
        prepare_cifar10(**WANTED)
