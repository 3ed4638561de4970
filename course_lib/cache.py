"""Freeze-boundary cache: run the frozen stages once, train the rest on what they returned."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, Subset
from tqdm import tqdm

from .backbones import stages
from .freezing import freeze_boundary

# Transforms that draw random numbers and whose name does not begin with "Random"
_RANDOM_NAMES = {
    "AugMix", "AutoAugment", "ColorJitter", "CutMix", "ElasticTransform", "GaussianBlur", "GaussianNoise", "JPEG",
    "MixUp", "RandAugment", "ScaleJitter", "TrivialAugmentWide",
}  # fmt: skip


def split_at_boundary(model: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """Split a model into its frozen front and its trainable rest.

    Parameters
    ----------
    model : nn.Module
        Anything that :func:`~course_lib.stages` accepts, partly frozen.

    Returns
    -------
    frozen, trainable : nn.Sequential
        Views that hold the model's own stages: training ``trainable`` trains the model.

    Raises
    ------
    ValueError
        Nothing is trainable, or nothing is frozen.
    """
    parts = stages(model)
    boundary = freeze_boundary(model)
    if boundary == 0:
        raise ValueError("no stage is frozen, so there is nothing to cache; train the model itself")
    names = list(parts)
    front = nn.Sequential(OrderedDict((n, parts[n]) for n in names[:boundary]))
    rest = nn.Sequential(OrderedDict((n, parts[n]) for n in names[boundary:]))
    return front.eval(), rest


class ActivationLoader:
    """Batches of stored activations; stands where a DataLoader would.

    Attributes
    ----------
    activations : Tensor
        Shape (views, N, ...): what the frozen stages returned, once for each stored view.
    labels : Tensor
        Shape (N,), class indices.
    batch_size : int
        Samples in a batch.
    shuffle : bool
        Whether each pass has a new order. With several views each sample also draws its view anew.
    """

    def __init__(
        self, activations: torch.Tensor, labels: torch.Tensor, batch_size: int, shuffle: bool, seed: int = 0
    ) -> None:
        self.activations, self.labels = activations, labels
        self.batch_size, self.shuffle = batch_size, shuffle
        self._generator = torch.Generator().manual_seed(seed)  # its own: iterating leaves global randomness alone

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        count, views = len(self.labels), len(self.activations)
        order, view = torch.arange(count), torch.zeros(count, dtype=torch.long)
        if self.shuffle:
            order = torch.randperm(count, generator=self._generator)
            view = torch.randint(views, (count,), generator=self._generator)
        for start in range(0, count, self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self.activations[view[rows], rows], self.labels[rows]


def cache_activations(
    frozen: nn.Module, dataloader: DataLoader, *, views: int = 1, max_gib: float = 2.0, seed: int = 0
) -> ActivationLoader:
    """Run frozen stages over the data once and keep what they return.

    A frozen stage gives the same output for the same image in every epoch, so one forward pass is all
    that it can cost. That holds only while the input is the same: a random transform is refused unless
    several augmented ``views`` of each image are asked for.

    Parameters
    ----------
    frozen : nn.Module
        The first result of :func:`split_at_boundary`, on the device where it shall run.
    dataloader : DataLoader
        Images and labels. Its batch size, and whether it shuffles, carry over.
    views : int
        Passes over the data; more than one only makes sense with a random transform.
    max_gib : float
        Refuse to store more than this, in GiB.
    seed : int
        Seed of the order in which the result gives its batches.

    Returns
    -------
    ActivationLoader
        Activations in float32 on the CPU.

    Raises
    ------
    ValueError
        A random transform with one view, or a part of ``frozen`` that is trainable.
    MemoryError
        The activations would not fit in ``max_gib``.
    """
    if any(p.requires_grad for p in frozen.parameters()):
        raise ValueError("cache_activations was given trainable stages; their output changes as they learn")
    names = random_transforms(dataloader.dataset)
    if views == 1 and names:
        raise ValueError(
            f"the data's transform is random ({', '.join(names)}): one stored pass would freeze one draw of it. Cache "
            "with the validation transform, or store several draws with views=4"
        )
    if isinstance(dataloader.batch_sampler, torch.utils.data.BatchSampler):
        shuffle, batch_size = isinstance(dataloader.sampler, RandomSampler), dataloader.batch_size
    else:
        raise ValueError("cache_activations needs a DataLoader with a batch size, not a batch sampler of its own")
    # The stored order is the data set's: every view must list the samples in the same order
    ordered = DataLoader(
        dataloader.dataset,
        batch_size=batch_size,
        num_workers=dataloader.num_workers,
        collate_fn=dataloader.collate_fn,
        generator=torch.Generator().manual_seed(seed),
    )
    weight = next(frozen.parameters(), None)  # none in a front that only pools or flattens
    count, device = len(dataloader.dataset), weight.device if weight is not None else torch.device("cpu")
    frozen.eval()
    activations, labels = None, torch.empty(count, dtype=torch.long)
    with torch.inference_mode(), tqdm(total=views * len(ordered), unit="batch", leave=False) as bar:
        for view in range(views):
            filled = 0
            for images, batch_labels in ordered:
                output = frozen(images.to(device, memory_format=torch.channels_last))
                if activations is None:
                    activations = _allocate(views, count, output.shape[1:], max_gib)
                activations[view, filled : filled + len(output)] = output.cpu()
                labels[filled : filled + len(output)] = batch_labels
                filled += len(output)
                bar.update()
    if activations is None:
        raise ValueError("the data set is empty")
    return ActivationLoader(activations, labels, batch_size, shuffle, seed)


def _allocate(views: int, count: int, shape: torch.Size, max_gib: float) -> torch.Tensor:
    gib = 4 * views * count * shape.numel() / 2**30
    if gib > max_gib:
        raise MemoryError(
            f"{views} x {count} activations of shape {tuple(shape)} take {gib:.1f} GiB, more than max_gib={max_gib}: "
            "freeze up to a later stage, use fewer images or views, or raise max_gib"
        )
    # made outside inference mode, so that autograd may save it when the rest is trained
    with torch.inference_mode(False):
        return torch.empty(views, count, *shape)


def random_transforms(dataset: Any) -> list[str]:
    """Names of the random transforms that a data set applies to its images, through subsets."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names: list[str] = []

    def walk(transform: Any) -> None:
        name = type(transform).__name__
        if name.startswith("Random") or name in _RANDOM_NAMES:
            names.append(name)
        for child in getattr(transform, "transforms", None) or []:
            walk(child)

    walk(getattr(dataset, "transform", None))
    return names
