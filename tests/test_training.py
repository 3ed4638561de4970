"""The training loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from course_lib import best_device, fit, make_loader, train_model, train_one_epoch, unfreeze_layers, validate

CPU = torch.device("cpu")


def test_one_epoch_is_the_plain_loop(tiny, loaders):
    """Same weights as the loop written out by hand, and averages over samples."""
    import copy

    twin, criterion = copy.deepcopy(tiny), nn.CrossEntropyLoss()
    # channels_last as in the loop, since dropout draws its mask in memory order
    data = [(x.to(memory_format=torch.channels_last), y) for x, y in loaders[0]]
    data[-1] = (data[-1][0][:4], data[-1][1][:4])  # a shorter last batch must weigh less
    torch.manual_seed(1)
    loss, accuracy = train_one_epoch(tiny, data, criterion, torch.optim.Adam(tiny.parameters(), 1e-2), CPU)

    torch.manual_seed(1)
    optimizer = torch.optim.Adam(twin.parameters(), 1e-2)
    losses, hits, n = 0.0, 0, 0
    twin.train()
    for x, y in data:
        logits = twin(x)
        batch_loss = criterion(logits, y)
        optimizer.zero_grad()
        batch_loss.backward()
        optimizer.step()
        losses, hits, n = losses + batch_loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
    assert loss == pytest.approx(losses / n, rel=1e-5)
    assert accuracy == hits / n
    for a, b in zip(tiny.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_validate_changes_nothing_and_averages_over_samples(tiny, loaders):
    before = {k: v.clone() for k, v in tiny.state_dict().items()}
    whole = next(iter(make_loader(loaders[1].dataset, batch_size=30, num_workers=0)))
    loss, accuracy = validate(tiny, loaders[1], nn.CrossEntropyLoss(), CPU)
    assert all(torch.equal(v, before[k]) for k, v in tiny.state_dict().items())
    with torch.no_grad():
        logits = tiny.eval()(whole[0])
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, whole[1]).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == whole[1]).float().mean().item())


def test_no_item_call_in_a_batch(tiny, loaders, monkeypatch):
    """One transfer to the host an epoch: the number of .item() calls must not grow with the batches."""
    calls = []
    original = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: calls.append(1) or original(self))
    validate(tiny, list(loaders[1]), nn.CrossEntropyLoss(), CPU)
    few = len(calls)
    validate(tiny, list(loaders[1]) * 5, nn.CrossEntropyLoss(), CPU)
    assert len(calls) == 2 * few


def test_fit_learns_and_reports(tiny, loaders):
    history = fit(
        tiny, *loaders, num_epochs=8, optimizer=torch.optim.Adam(tiny.parameters(), 1e-2), device="cpu", progress=False
    )
    assert len(history.val_loss) == len(history.train_accuracy) == len(history.seconds) == 8
    assert history.best_accuracy > 0.9
    assert history.val_loss[-1] < history.val_loss[0]
    assert not history.stopped_early


def test_the_best_epoch_is_restored(tiny, loaders):
    """A learning rate that explodes after the third epoch: the last weights are bad, the kept ones are not."""
    optimizer = torch.optim.SGD(tiny.parameters(), 0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 if epoch < 3 else 300)
    history = fit(tiny, *loaders, num_epochs=6, optimizer=optimizer, scheduler=scheduler, device="cpu", progress=False)
    assert history.best_epoch == history.val_accuracy.index(max(history.val_accuracy)) < 5
    assert history.val_accuracy[-1] < history.best_accuracy
    _, accuracy = validate(tiny, loaders[1], nn.CrossEntropyLoss(), CPU)
    assert accuracy == history.best_accuracy


def test_early_stopping_counts_epochs_without_lower_loss(tiny, loaders):
    optimizer = torch.optim.SGD(tiny.parameters(), 0.0)  # nothing changes but BatchNorm, so the loss soon stalls
    unfreeze_layers(tiny, 1)
    history = fit(tiny, *loaders, num_epochs=20, optimizer=optimizer, patience=3, device="cpu", progress=False)
    assert history.stopped_early
    assert len(history.val_loss) == 4


def test_default_scheduler_halves_the_rate_on_a_plateau(tiny, loaders):
    def constant(logits, labels):
        return 0 * logits.sum() + 1

    optimizer = torch.optim.SGD(tiny.parameters(), 0.1)
    history = fit(tiny, *loaders, num_epochs=8, optimizer=optimizer, criterion=constant, device="cpu", progress=False)
    rates = [r["0"] for r in history.learning_rates]
    # the first epoch sets the mark; patience 2: the third epoch without gain is the first too many
    assert rates == [0.1] * 4 + [0.05] * 3 + [0.025]


def test_a_nan_loss_stops_with_the_best_weights_so_far(tiny, loaders):
    images, labels = next(iter(loaders[0]))
    images = images.clone()
    images[0] = float("nan")
    good = {k: v.clone() for k, v in tiny.state_dict().items()}
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit(tiny, [(images, labels)], loaders[1], device="cpu", progress=False)
    assert all(torch.equal(v, good[k]) for k, v in tiny.state_dict().items())


def test_same_seed_same_weights(loaders):
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3))
        loader = make_loader(loaders[0].dataset, batch_size=10, shuffle=True, num_workers=0, seed=3)
        fit(model, loader, loaders[1], num_epochs=2, device="cpu", progress=False)
        results.append(model[2].weight.detach().clone())
    assert torch.equal(*results)


def test_train_model_returns_the_same_model_trained(tiny, loaders):
    before = tiny[3].weight.detach().clone()
    assert train_model(tiny, *loaders, num_epochs=1, device="cpu") is tiny
    assert not torch.equal(before, tiny[3].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_epochs": 0}, "num_epochs"), ({"patience": 0}, "patience"), ({"device": "gpu"}, "no device")],
)
def test_impossible_values(tiny, loaders, options, message):
    with pytest.raises(ValueError, match=message):
        fit(tiny, *loaders, progress=False, **options)


def test_empty_data(tiny):
    empty = make_loader(TensorDataset(torch.empty(0, 3, 8, 8), torch.empty(0, dtype=torch.long)), num_workers=0)
    with pytest.raises(ValueError, match="no batch"):
        validate(tiny, empty, nn.CrossEntropyLoss(), CPU)


def test_best_device_order(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert best_device() == CPU
    with pytest.raises(ValueError, match="only cpu"):
        best_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert best_device().type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device().type == "cuda"
    assert best_device("cpu") == CPU
