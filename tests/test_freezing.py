"""Freezing: what is trained, what stays, and that it really stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from course_lib import (
    count_parameters,
    create_transfer_model,
    freeze_boundary,
    freeze_until,
    parameter_groups,
    stages,
    train_mode,
    train_one_epoch,
    unfreeze_layers,
)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "efficientnet_lite0", "timm/regnetx_002"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_unfreeze_counts_stages_in_every_family(name, n):
    model = create_transfer_model(4, model_name=name, weights=None)
    names = list(stages(model))
    assert unfreeze_layers(model, n) == names[-n:]
    for index, stage in enumerate(stages(model).values()):
        assert all(p.requires_grad == (index >= len(names) - n) for p in stage.parameters())
    assert freeze_boundary(model) == len(names) - n


def test_unfreeze_layers_of_resnet_are_whole_layers():
    model = create_transfer_model(4, model_name="resnet18", weights=None)
    assert unfreeze_layers(model, 2) == ["layer4", "head"]
    assert all(p.requires_grad for p in model.layer4.parameters())


def test_all_stages_can_be_unfrozen_and_frozen_again(tiny):
    assert freeze_until(tiny, "0") == ["0", "1", "2", "3"]
    assert freeze_boundary(tiny) == 0
    assert freeze_until(tiny, "3") == ["3"]


@pytest.mark.parametrize("n", [0, -1, 5])
def test_impossible_numbers_of_stages(tiny, n):
    with pytest.raises(ValueError, match="between 1 and 4"):
        unfreeze_layers(tiny, n)


def test_unknown_stage(tiny):
    with pytest.raises(ValueError, match="the stages are 0, 1, 2, 3"):
        freeze_until(tiny, "layer4")


def test_train_mode_leaves_frozen_stages_in_eval_mode(tiny):
    unfreeze_layers(tiny, 2)
    train_mode(tiny)
    assert [stage.training for stage in tiny] == [False, False, True, True]
    assert not any(m.training for m in tiny[1].modules())


def test_a_stage_frozen_by_hand_after_the_boundary_is_frozen_too(tiny):
    for p in tiny[1].parameters():
        p.requires_grad = False
    train_mode(tiny)
    assert [stage.training for stage in tiny] == [True, False, True, True]


def test_nothing_trainable_is_an_error(tiny):
    tiny.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        train_mode(tiny)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        parameter_groups(tiny, 1e-3)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_frozen_means_frozen_through_training_and_refreezing(tiny, loaders, optimizer):
    """Weights, buffers and all, also for an optimizer that has momentum and weight decay for them."""
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    optimizer = getattr(torch.optim, optimizer)(tiny.parameters(), lr=0.01, weight_decay=0.1, **options)
    criterion = nn.CrossEntropyLoss()
    train_one_epoch(tiny, loaders[0], criterion, optimizer, "cpu")  # the optimizer has state for every parameter now
    unfreeze_layers(tiny, 2)
    assert all(p.grad is None for stage in tiny[:2] for p in stage.parameters())
    before = {k: v.clone() for k, v in tiny.state_dict().items()}
    train_one_epoch(tiny, loaders[0], criterion, optimizer, "cpu")
    after = tiny.state_dict()
    same = {k for k in before if torch.equal(before[k], after[k])}
    assert same == {k for k in before if k.startswith(("0.", "1."))}


def test_plain_train_mode_would_not_be_frozen(tiny, loaders):
    """The trap that train_mode closes: without it this test's module would be pointless."""
    unfreeze_layers(tiny, 1)
    before = tiny[0][1].running_mean.clone()
    tiny.train()
    tiny(next(iter(loaders[0]))[0])
    assert not torch.equal(before, tiny[0][1].running_mean)


def test_parameter_count_prints_the_chapters_line():
    with torch.device("meta"):
        count = count_parameters(create_transfer_model(10, model_name="resnet50", weights=None))
    # 2,048 x 10 weights and 10 biases; torchvision states 25,557,032 parameters with the 1,000-class head
    assert count.trainable == 20_490
    assert count.total == 25_557_032 - (2048 * 1000 + 1000) + 20_490
    assert str(count) == "trainable 20,490 of 23,528,522 parameters (0.09%)"


def test_parameter_groups_are_named_stages_with_their_own_rates(tiny):
    unfreeze_layers(tiny, 3)
    groups = parameter_groups(tiny, {"1": 1e-5, "2": 1e-4, "3": 1e-3})
    assert [(g["name"], g["lr"]) for g in groups] == [("1", 1e-5), ("2", 1e-4), ("3", 1e-3)]
    trained = [id(p) for g in groups for p in g["params"]]
    assert sorted(trained) == sorted(id(p) for p in tiny.parameters() if p.requires_grad)
    optimizer = torch.optim.Adam(groups)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-5, 1e-4, 1e-3]


def test_parameter_groups_refuse_unknown_and_missing_stages(tiny):
    with pytest.raises(ValueError, match="rates name layer4"):
        parameter_groups(tiny, {"layer4": 1e-4})
    with pytest.raises(ValueError, match="no learning rate for the trainable stages 0, 1, 2"):
        parameter_groups(tiny, {"3": 1e-3})
