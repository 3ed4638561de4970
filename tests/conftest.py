"""Shared by the library's tests: small models and data, and no network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import make_loader


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from the same random state, and leaves torch's generator as it found it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def tiny() -> nn.Sequential:
    """A network of four stages with batch normalisation and dropout, on (N, 3, 8, 8) images, three classes."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8), nn.ReLU()),
        nn.Linear(8, 3),
    )


def blobs(n: int, seed: int = 0) -> TensorDataset:
    """Three classes of images that differ in their mean colour, with noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = torch.randn(n, 3, 8, 8, generator=generator) + 2 * torch.eye(3)[labels][:, :, None, None]
    return TensorDataset(images, labels)


@pytest.fixture
def loaders() -> tuple:
    """Training and validation loaders over ``blobs``."""
    return (
        make_loader(blobs(60), batch_size=10, shuffle=True, num_workers=0),
        make_loader(blobs(30, seed=1), batch_size=10, num_workers=0),
    )
