"""Features: shapes, wrong names, and a model that is left as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from course_lib import create_transfer_model, load_backbone, make_loader, split_at_boundary, stages
from course_lib.cache import cache_activations
from course_lib.features import FeatureExtractor, extract_features, stage_features

FAMILIES = ["resnet18", "efficientnet_b0", "vgg16", "efficientnet_lite0"]


def images(count: int = 2, size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def loader(count: int = 7, batch_size: int = 3, shuffle: bool = False) -> DataLoader:
    return make_loader(
        TensorDataset(images(count, 32), torch.arange(count)), batch_size=batch_size, shuffle=shuffle, num_workers=0
    )


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_the_chapters_shape():
    features = FeatureExtractor("resnet50", "avgpool", weights=None)(images(8, 224))
    assert features.shape == (8, 2048)
    assert not features.requires_grad
    assert features.is_contiguous()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_stage_of_every_family_equals_the_stages_view(name):
    torch.manual_seed(0)
    model = load_backbone(name, weights=None).eval()
    x = images()
    expected = x
    with torch.no_grad():
        for stage, module in stages(model).items():
            expected = module(expected)
            assert torch.equal(FeatureExtractor(model, stage)(x), expected.flatten(1)), stage
        assert torch.equal(FeatureExtractor(model, stage)(x), model(x))


def test_a_named_module_inside_a_stage():
    model = create_transfer_model(3, model_name="resnet18", weights=None)
    assert FeatureExtractor(model, "layer3.0.conv1")(images()).shape == (2, 256 * 4 * 4)


def test_stage_and_module_of_the_same_name_means_the_stage():
    model = create_transfer_model(3, model_name="resnet18", weights=None)
    x = images()
    assert torch.equal(FeatureExtractor(model, "layer4")(x), FeatureExtractor(model, "avgpool")(x))


def test_an_in_place_layer_behind_does_not_change_what_was_kept():
    model = small_model().eval()
    x = images()
    with torch.no_grad():
        expected = model[1](model[0](x)).flatten(1)
    assert (expected < 0).any()

    class Whole(nn.Module):  # not an nn.Sequential, so that the layer is found by name and the ReLU behind it runs
        def __init__(self) -> None:
            super().__init__()
            self.layers = model

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layers(inputs)

    assert torch.equal(FeatureExtractor(Whole(), "layers.1")(x), expected)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("avgpol", "avgpool"), ("layer_4", "layer4"), ("layer4.3", "layer4.1"), ("", "stem"), ("x", "head")],
)
def test_a_wrong_layer_name_is_refused_at_once_with_names_near_it(wrong, hint):
    with pytest.raises(ValueError, match=f"no layer '{wrong}'.*{hint}"):
        FeatureExtractor("resnet18", wrong, weights=None)


def test_default_layer_of_a_model_that_lacks_it_names_its_stages():
    with pytest.raises(ValueError, match=r"no layer 'avgpool'.*its stages: stem, .*conv_head, head"):
        FeatureExtractor("efficientnet_lite0", weights=None)


def test_an_unknown_model_is_the_error_of_the_backbones():
    with pytest.raises(ValueError, match="unknown model 'resnet51'; known: resnet18"):
        FeatureExtractor("resnet51")


def test_a_layer_that_never_runs_is_named():
    model = nn.Module()
    model.used, model.spare = nn.Flatten(), nn.Flatten()
    model.forward = lambda x: model.used(x)
    with pytest.raises(RuntimeError, match="'spare' exists but did not run"):
        FeatureExtractor(model, "spare")(images())
    assert hooks(model) == 0


def test_a_layer_that_returns_no_tensor_is_named():
    model = nn.Module()
    model.rnn = nn.GRU(4, 2, batch_first=True)
    model.forward = lambda x: model.rnn(x)[0]
    with pytest.raises(TypeError, match="'rnn' returns a tuple"):
        FeatureExtractor(model, "rnn")(torch.zeros(2, 3, 4))


def test_evaluation_mode_also_after_train():
    torch.manual_seed(0)
    extractor = FeatureExtractor("resnet18", "avgpool", weights=None)
    before = copy.deepcopy(extractor.state_dict())
    x = images()
    first = extractor(x)
    assert extractor.train() is extractor
    assert not extractor.training
    extractor.model.train()  # past the extractor's back
    assert torch.equal(extractor(x), first)  # and a second call works like the first
    assert all(torch.equal(before[k], v) for k, v in extractor.state_dict().items())  # no running statistic moved


def test_a_given_model_is_left_as_it_was():
    model = small_model()
    model[0].weight.requires_grad = False
    model.train()
    model[1].eval()
    modes = [m.training for m in model.modules()]
    grads = [p.requires_grad for p in model.parameters()]
    extractor = FeatureExtractor(model, "4")
    extractor(images())
    extract_features(extractor, loader())
    stage_features(model, loader())
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == grads
    assert hooks(model) == 0


def test_nothing_is_left_behind_when_the_pass_fails():
    model = small_model().train()
    extractor = FeatureExtractor(model, "0")
    with pytest.raises(RuntimeError, match="channels"):
        extractor(torch.zeros(2, 1, 8, 8))
    assert hooks(model) == 0
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert extractor(images()).shape[0] == 2


def test_it_follows_the_model_that_it_was_given():
    model = small_model()
    extractor = FeatureExtractor(model, "4")
    x = images()
    before = extractor(x)
    with torch.no_grad():
        model[0].weight += 1
    assert not torch.equal(extractor(x), before)


def test_no_weight_is_registered_twice():
    extractor = FeatureExtractor("resnet18", "layer2", weights=None)
    assert set(extractor.state_dict()) == {f"model.{k}" for k in extractor.model.state_dict()}


def test_a_head_can_be_trained_on_the_features():
    features = FeatureExtractor(small_model(), "4")(images())
    head = nn.Linear(4, 2)
    head(features).sum().backward()  # inference tensors would refuse
    assert head.weight.grad is not None


def test_extract_features_gives_numpy_in_the_order_of_the_data():
    extractor = FeatureExtractor(small_model(), "4")
    features, labels = extract_features(extractor, loader())
    assert isinstance(features, np.ndarray)
    assert (features.shape, features.dtype) == ((7, 4), np.float32)
    assert labels.tolist() == list(range(7))
    assert np.allclose(features, extractor(images(7, 32)).numpy(), atol=1e-6)
    shuffled, same_labels = extract_features(extractor, loader(shuffle=True))
    assert np.array_equal(features, shuffled)
    assert np.array_equal(labels, same_labels)


def test_features_before_the_head_are_what_the_cache_stores():
    model = create_transfer_model(3, model_name="efficientnet_lite0", weights=None)
    front, _ = split_at_boundary(model)
    features, _ = extract_features(FeatureExtractor(model, "conv_head"), loader())
    assert np.array_equal(features, cache_activations(front, loader()).activations[0].numpy())


def test_a_random_transform_is_refused():
    data = TensorDataset(images(4, 32), torch.arange(4))
    data.transform = v2.RandomHorizontalFlip()
    model = small_model()
    with pytest.raises(ValueError, match="RandomHorizontalFlip"):
        extract_features(FeatureExtractor(model, "4"), make_loader(data, num_workers=0))
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_stage_features_are_the_pooled_stages(name):
    torch.manual_seed(0)
    model = create_transfer_model(3, model_name=name, weights=None)
    result = stage_features(model, loader(2))
    assert list(result) == list(stages(model))
    for stage, features in result.items():
        one, _ = extract_features(FeatureExtractor(model, stage), loader(2))
        pooled = one.reshape(*features.shape, -1).mean(-1)
        assert np.allclose(features, pooled, rtol=1e-4, atol=1e-5), stage


def test_stage_features_need_one_pass():
    model = small_model()
    calls = []
    handle = model[0].register_forward_hook(lambda *_: calls.append(1))
    stage_features(model, loader(count=7, batch_size=3))
    handle.remove()
    assert len(calls) == 3


def test_stage_features_of_an_unknown_class():
    with pytest.raises(TypeError, match="does not know the class Bilinear"):
        stage_features(nn.Bilinear(1, 1, 1), loader())
