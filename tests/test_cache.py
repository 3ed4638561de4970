"""The freeze-boundary cache."""

from __future__ import annotations

import pytest
import torch
from conftest import blobs
from torch import nn
from torchvision.transforms import v2

from course_lib import (
    cache_activations,
    create_transfer_model,
    fit,
    image_folders,
    make_loader,
    split_at_boundary,
    stages,
    train_transform,
    unfreeze_layers,
    val_transform,
    validate,
)
from course_lib.cache import random_transforms


def test_the_parts_are_the_models_own_and_compute_it(tiny):
    unfreeze_layers(tiny, 2)
    frozen, rest = split_at_boundary(tiny)
    x = torch.randn(2, 3, 8, 8)
    tiny.eval()
    assert torch.equal(rest(frozen(x)), tiny(x))
    assert rest[0] is tiny[2]


def test_training_on_the_cache_equals_training_the_frozen_model(tiny, loaders):
    """Same seed, same order, same weights: the cache changes the time, not the result."""
    import copy

    results = []
    for cached in (True, False):
        model = copy.deepcopy(tiny)
        unfreeze_layers(model, 2)
        train, val = (make_loader(blobs(30, seed), batch_size=10, num_workers=0) for seed in (0, 1))
        part = model
        if cached:
            frozen, part = split_at_boundary(model)
            train, val = cache_activations(frozen, train), cache_activations(frozen, val)
        torch.manual_seed(0)
        history = fit(part, train, val, num_epochs=3, device="cpu", progress=False)
        results.append((model.state_dict(), history))
    (a, history_a), (b, history_b) = results
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)
    assert history_a.val_loss == pytest.approx(history_b.val_loss, rel=1e-5)


def test_training_the_rest_trains_the_model(tiny, loaders):
    unfreeze_layers(tiny, 1)
    frozen, rest = split_at_boundary(tiny)
    before = tiny[3].weight.detach().clone()
    cache = [cache_activations(frozen, loader) for loader in loaders]
    history = fit(rest, *cache, num_epochs=2, device="cpu", progress=False)
    assert not torch.equal(before, tiny[3].weight)
    _, accuracy = validate(tiny, loaders[1], nn.CrossEntropyLoss(), "cpu")  # the whole model, on images
    assert accuracy == pytest.approx(history.best_accuracy)


def test_order_and_labels_are_the_data_sets(tiny, loaders):
    unfreeze_layers(tiny, 1)
    frozen, _ = split_at_boundary(tiny)
    cache = cache_activations(frozen, loaders[0])  # this loader shuffles; what is stored does not
    assert torch.equal(cache.labels, loaders[0].dataset.tensors[1])
    with torch.no_grad():
        torch.testing.assert_close(cache.activations[0], frozen(loaders[0].dataset.tensors[0]))
    assert cache.shuffle
    assert len(cache) == len(loaders[0])
    first, second = (torch.cat([y for _, y in cache]) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


def test_iterating_leaves_the_global_generator_alone(tiny, loaders):
    unfreeze_layers(tiny, 1)
    cache = cache_activations(split_at_boundary(tiny)[0], loaders[0])
    before = torch.random.get_rng_state()
    list(cache)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture
def folder(tmp_path):
    from PIL import Image

    for split in ("train", "val"):
        for number, label in enumerate(("a", "b")):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (20, 20), (90 * number, 40 * i, 7)).save(tmp_path / split / label / f"{i}.png")
    return tmp_path


def test_a_random_transform_is_refused_with_its_names(folder):
    model = create_transfer_model(2, model_name="timm/mobilenetv3_small_050", weights=None)
    frozen, _ = split_at_boundary(model)
    data = image_folders(folder, {"train": train_transform(32)})["train"]
    with pytest.raises(ValueError, match=r"RandomResizedCrop, RandomHorizontalFlip, RandomRotation, ColorJitter"):
        cache_activations(frozen, make_loader(data, num_workers=0))
    subset = torch.utils.data.Subset(data, [0, 1])
    assert random_transforms(subset)
    views = cache_activations(frozen, make_loader(subset, num_workers=0), views=3)
    assert views.activations.shape[:2] == (3, 2)
    assert not torch.equal(views.activations[0], views.activations[1])


def test_known_transforms():
    class Data:
        transform = None

    for transform, random in [
        (val_transform(32), False),
        (train_transform(32), True),
        (v2.ColorJitter(0.1), True),
        (v2.Compose([v2.Compose([v2.RandomErasing()])]), True),
        (v2.Resize(3), False),
        (None, False),
    ]:
        Data.transform = transform
        assert bool(random_transforms(Data)) is random


def test_too_large_a_cache_is_refused_before_it_is_made(tiny, loaders):
    unfreeze_layers(tiny, 1)
    frozen, _ = split_at_boundary(tiny)
    with pytest.raises(MemoryError, match="max_gib"):
        cache_activations(frozen, loaders[0], max_gib=1e-9)


def test_trainable_stages_are_not_cached(tiny, loaders):
    unfreeze_layers(tiny, 4)
    with pytest.raises(ValueError, match="no stage is frozen"):
        split_at_boundary(tiny)
    with pytest.raises(ValueError, match="trainable"):
        cache_activations(nn.Sequential(*stages(tiny).values()), loaders[0])


def test_a_front_without_parameters_is_cached_too(loaders):
    cache = cache_activations(nn.Flatten(), loaders[1])
    assert torch.equal(cache.activations[0], loaders[1].dataset.tensors[0].flatten(1))
