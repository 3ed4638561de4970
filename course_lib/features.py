"""Features: what a layer, or each stage, of a network says about an image."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from .backbones import load_backbone, stages
from .cache import cache_activations


class FeatureExtractor(nn.Module):
    """The output of one layer of a network as one feature vector per image.

    Parameters
    ----------
    model_name : str or nn.Module
        A name that :func:`~course_lib.load_backbone` knows, or a model, for instance a fine-tuned one. A model is
        used as it is at each call and left as it is: its mode, its trainable parameters and its hooks do not change.
    layer_name : str
        A stage of :func:`~course_lib.stages`, or any name in ``model.named_modules()``. Where a name is both,
        the stage is meant: ``"layer4"`` of a ResNet then includes the pooling that belongs to that stage.
    weights : {"pretrained", None}
        None: random weights. Without meaning where a model is given.

    Raises
    ------
    ValueError
        Unknown model, or no layer of that name; the message lists names near it and the stages.
    WeightsUnavailableError
        The weights are not on this machine and cannot be fetched.

    Notes
    -----
    Calling it maps (N, 3, H, W) images to (N, D) features, without gradients and in evaluation mode whatever
    ``train()`` was told. A layer that runs several times in one pass gives its last output.
    """

    def __init__(
        self,
        model_name: str | nn.Module = "resnet50",
        layer_name: str = "avgpool",
        *,
        weights: str | None = "pretrained",
    ) -> None:
        super().__init__()
        if isinstance(model_name, nn.Module):
            self.model = model_name
        else:
            self.model = load_backbone(model_name, weights=weights).to(memory_format=torch.channels_last).eval()
        self.layer_name = layer_name
        # what runs, and the part of it that is listened to; in a tuple, so that no weight is registered twice
        self._route = _find_layer(self.model, layer_name)
        self.training = False

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Do nothing: features are always taken in evaluation mode."""
        return self

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) images, where the model is, to (N, D) features."""
        network, layer = self._route
        outputs: list[object] = []

        def keep(_module: nn.Module, _inputs: tuple, output: object) -> None:
            # a copy: the next layer may be an in-place ReLU, which writes over what this one returned
            outputs.append(output.clone() if isinstance(output, torch.Tensor) else output)

        # the hook lives as long as the pass, also when the pass fails: nothing is left behind on the model
        handle = layer.register_forward_hook(keep)
        try:
            with _at_rest(self.model):
                network(images)
        finally:
            handle.remove()
        if not outputs:
            raise RuntimeError(
                f"the layer {self.layer_name!r} exists but did not run in the forward pass; choose another"
            )
        if not isinstance(outputs[-1], torch.Tensor):
            raise TypeError(
                f"the layer {self.layer_name!r} returns a {type(outputs[-1]).__name__}, not a tensor; choose one in it"
            )
        return outputs[-1].flatten(1)


def _find_layer(model: nn.Module, layer_name: str) -> tuple[nn.Module, nn.Module]:
    """The network to run, and the module in it whose output is wanted."""
    try:
        parts = stages(model)
    except TypeError:  # no view as stages: the model's own names remain
        parts = {}
    if layer_name in parts:
        upto = list(parts).index(layer_name) + 1  # the stages after it need not run
        return nn.Sequential(*list(parts.values())[:upto]), parts[layer_name]
    names = [n for n, _ in model.named_modules() if n]  # the first one, "", is the model itself
    if layer_name in names:
        return model, model.get_submodule(layer_name)
    near = difflib.get_close_matches(layer_name, [*parts, *names], n=5, cutoff=0.5)
    raise ValueError(
        f"{type(model).__name__} has no layer {layer_name!r}"
        + (f"; near it: {', '.join(dict.fromkeys(near))}" if near else "")
        + (f"; its stages: {', '.join(parts)}" if parts else "")
        + "; all names: [n for n, _ in model.named_modules()]"
    )


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and nothing trainable, for as long as the block lasts."""
    training = [m for m in model.modules() if m.training]
    trainable = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for parameter in trainable:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trainable:
            parameter.requires_grad = True


def extract_features(extractor: nn.Module, dataloader: DataLoader) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of a whole data set, as scikit-learn wants them: ``X, y``.

    Parameters
    ----------
    extractor : nn.Module
        Usually a :class:`FeatureExtractor`; it runs on the device where its parameters are.
    dataloader : DataLoader
        Images and labels. The rows come in the order of the data set, also where the loader shuffles.

    Returns
    -------
    features : ndarray
        Shape (N, D), float32.
    labels : ndarray
        Shape (N,), int64.

    Raises
    ------
    ValueError
        The data's transform is random, or the data set is empty.
    MemoryError
        The features would take more than 2 GiB.
    """
    with _at_rest(extractor):
        stored = cache_activations(extractor, dataloader)
    return stored.activations[0].flatten(1).numpy(), stored.labels.numpy()


class _PooledStages(nn.Module):
    """The outputs of all stages, each averaged over its positions, side by side in one vector."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.Sequential(OrderedDict(parts))
        self.widths: list[int] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        pooled = []
        for stage in self.parts:
            inputs = stage(inputs)
            pooled.append(inputs.mean(dim=(2, 3)) if inputs.ndim == 4 else inputs.flatten(1))
        self.widths = [p.shape[1] for p in pooled]
        return torch.cat(pooled, dim=1)


def stage_features(model: nn.Module, dataloader: DataLoader) -> dict[str, np.ndarray]:
    """Globally average-pooled output of every stage, from one pass over the data.

    Parameters
    ----------
    model : nn.Module
        Anything that :func:`~course_lib.stages` accepts, frozen or not; it is left as it is.
    dataloader : DataLoader
        Images and labels. The rows come in the order of the data set, also where the loader shuffles.

    Returns
    -------
    dict of str to ndarray
        (N, D) features in float32 for each stage, the head included, in the order of the stages.

    Raises
    ------
    TypeError
        The model's class is not known to ``stages``.
    ValueError, MemoryError
        As :func:`extract_features`.
    """
    pooled = _PooledStages(stages(model))
    features, _ = extract_features(pooled, dataloader)
    columns = np.cumsum(pooled.widths)[:-1]
    return dict(zip(stages(model), np.split(features, columns, axis=1), strict=True))
