"""The library of the transfer-learning course: a model is an ordered list of stages."""

from .backbones import (
    WeightsUnavailableError,
    create_transfer_model,
    load_backbone,
    normalization,
    stages,
)
from .cache import cache_activations, split_at_boundary
from .data import (
    course_profile,
    image_folders,
    make_loader,
    prepare_cifar10,
    read_image,
    stratified_subset,
    train_transform,
    val_transform,
)
from .features import FeatureExtractor, extract_features, stage_features
from .freezing import (
    count_parameters,
    freeze_boundary,
    freeze_until,
    parameter_groups,
    train_mode,
    unfreeze_layers,
)
from .training import History, best_device, fit, train_model, train_one_epoch, validate

__all__ = [
    "FeatureExtractor",
    "History",
    "WeightsUnavailableError",
    "best_device",
    "cache_activations",
    "count_parameters",
    "course_profile",
    "create_transfer_model",
    "extract_features",
    "fit",
    "freeze_boundary",
    "freeze_until",
    "image_folders",
    "load_backbone",
    "make_loader",
    "normalization",
    "parameter_groups",
    "prepare_cifar10",
    "read_image",
    "split_at_boundary",
    "stage_features",
    "stages",
    "stratified_subset",
    "train_mode",
    "train_model",
    "train_one_epoch",
    "train_transform",
    "unfreeze_layers",
    "val_transform",
    "validate",
]
