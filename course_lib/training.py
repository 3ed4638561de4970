"""The training loop: one epoch, one validation, and ``fit``, which puts them together.

Read from top to bottom: this is the lesson, not a framework.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn
from tqdm import tqdm

from .freezing import parameter_groups, train_mode

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Loader = Iterable[tuple[torch.Tensor, torch.Tensor]]


def best_device(device: str | torch.device | None = None) -> torch.device:
    """Choose where to compute: CUDA if there is one, then Apple's MPS, then the CPU.

    Parameters
    ----------
    device : str, torch.device or None
        A device asked for by name; None chooses.

    Raises
    ------
    ValueError
        The device asked for does not exist on this machine.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if device is None:
        return torch.device(available[0])
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"{device!r} is no device; this machine has {', '.join(available)}") from error
    if chosen.type not in available:
        raise ValueError(f"this machine has no {chosen.type!r} device, only {', '.join(available)}; use device=None")
    return chosen


def to_device(inputs: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a batch to the device; image batches also go to channels_last order, like the model's weights."""
    order = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
    return inputs.to(device, non_blocking=True, memory_format=order)


def train_one_epoch(
    model: nn.Module,
    dataloader: Loader,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    device: str | torch.device,
) -> tuple[float, float]:
    """Train for one pass over the data; frozen stages stay as they are.

    Parameters
    ----------
    model : nn.Module
        Anything that :func:`~course_lib.stages` accepts, at least one parameter trainable.
    dataloader : iterable of (inputs, labels)
        Labels are class indices.
    criterion : callable
        (logits, labels) to the mean loss of a batch.
    optimizer : torch.optim.Optimizer
        Over the trainable parameters.
    device : str or torch.device
        Where the model is.

    Returns
    -------
    loss, accuracy : float
        Averages over samples, measured while the weights were changing; accuracy between 0 and 1.

    Raises
    ------
    FloatingPointError
        The loss became NaN or infinite.
    ValueError
        The loader is empty, or nothing is trainable.
    """
    train_mode(model)  # not model.train(): that would let frozen BatchNorm statistics drift
    return _run(model, dataloader, criterion, device, optimizer)


def validate(
    model: nn.Module, dataloader: Loader, criterion: Criterion, device: str | torch.device
) -> tuple[float, float]:
    """Loss and accuracy over the data, in evaluation mode, without gradients.

    Parameters, returns and errors as in :func:`train_one_epoch`, without an optimizer.
    """
    model.eval()
    with torch.no_grad():
        return _run(model, dataloader, criterion, device)


def _run(
    model: nn.Module,
    dataloader: Loader,
    criterion: Criterion,
    device: str | torch.device,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[float, float]:
    device = torch.device(device)
    # The sums stay on the device. An .item() in each batch would make the CPU wait for the GPU every time.
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), dtype=torch.long, device=device)
    count = 0
    for inputs, labels in dataloader:
        inputs, labels = to_device(inputs, device), labels.to(device, non_blocking=True)
        logits = model(inputs)
        loss = criterion(logits, labels)
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        loss_sum += loss.detach() * len(labels)  # the last batch may be smaller, so weigh by its size
        correct += (logits.argmax(dim=1) == labels).sum()
        count += len(labels)
    if count == 0:
        raise ValueError("the data loader gave no batch: is the data set empty, or drop_last on with few samples?")
    mean_loss, accuracy = (loss_sum / count).item(), correct.item() / count
    if not math.isfinite(mean_loss):
        raise FloatingPointError(
            f"the loss became {mean_loss}: lower the learning rate, and look for NaN in the inputs"
        )
    return mean_loss, accuracy


@dataclass
class History:
    """What happened in each epoch: one entry a list and epoch.

    Attributes
    ----------
    train_loss, train_accuracy, val_loss, val_accuracy : list of float
        Sample averages; accuracies between 0 and 1.
    learning_rates : list of dict
        Rate of each parameter group during the epoch, by the group's name or number.
    seconds : list of float
        Wall-clock time of training and validation together.
    best_epoch : int
        Index (from 0) of the epoch whose weights the model has now.
    stopped_early : bool
        Whether patience ran out before the last epoch.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rates: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False

    @property
    def best_accuracy(self) -> float:
        """Validation accuracy of the best epoch."""
        return self.val_accuracy[self.best_epoch]


def fit(
    model: nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    *,
    num_epochs: int = 10,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | torch.optim.lr_scheduler.ReduceLROnPlateau | None = None,
    criterion: Criterion | None = None,
    device: str | torch.device | None = None,
    patience: int | None = None,
    progress: bool = True,
) -> History:
    """Train, validate after every epoch, and leave the model with the weights of its best epoch.

    Parameters
    ----------
    model : nn.Module
        Anything that :func:`~course_lib.stages` accepts. Trained in place, moved to ``device``.
    train_loader, val_loader : iterable of (inputs, labels)
        Training and validation data.
    num_epochs : int
        At most this many passes over the training data.
    optimizer : torch.optim.Optimizer, optional
        Default: Adam at 1e-3 on what is trainable.
    scheduler : learning-rate scheduler, optional
        Stepped once an epoch. Default: ReduceLROnPlateau on the validation loss, factor 0.5, patience 2.
    criterion : callable, optional
        Default: cross-entropy.
    device : str, torch.device or None
        None: the best there is.
    patience : int, optional
        Stop after this many epochs in a row without a lower validation loss (early stopping).
    progress : bool
        Show a progress bar, which disappears at the end.

    Returns
    -------
    History
        One entry an epoch. The best epoch is the first with the highest validation accuracy.

    Raises
    ------
    FloatingPointError
        The loss became NaN or infinite. The model has the weights of its best epoch so far.
    ValueError
        Unknown device, no epochs, an empty loader, or nothing to train.
    """
    if num_epochs < 1:
        raise ValueError(f"num_epochs must be at least 1, not {num_epochs}")
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be at least 1 epoch, or None, not {patience}")
    device = best_device(device)
    model.to(device)
    criterion = criterion or nn.CrossEntropyLoss()
    optimizer = optimizer or torch.optim.Adam(parameter_groups(model, 1e-3))
    scheduler = scheduler or torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=2)

    history = History()
    best_weights = copy.deepcopy(model.state_dict())
    lowest_loss, epochs_without_gain = math.inf, 0
    try:
        # leave=False: no bar remains in a notebook's stored output
        for epoch in (bar := tqdm(range(num_epochs), unit="epoch", leave=False, disable=not progress)):
            start = time.perf_counter()
            rates = {str(g.get("name", i)): g["lr"] for i, g in enumerate(optimizer.param_groups)}
            train_loss, train_accuracy = train_one_epoch(model, train_loader, criterion, optimizer, device)
            val_loss, val_accuracy = validate(model, val_loader, criterion, device)
            history.train_loss.append(train_loss)
            history.train_accuracy.append(train_accuracy)
            history.val_loss.append(val_loss)
            history.val_accuracy.append(val_accuracy)
            history.learning_rates.append(rates)
            history.seconds.append(time.perf_counter() - start)
            bar.set_postfix(val_accuracy=f"{val_accuracy:.3f}")

            if history.best_epoch < 0 or val_accuracy > history.best_accuracy:
                history.best_epoch = epoch
                best_weights = copy.deepcopy(model.state_dict())
            if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                scheduler.step(val_loss)
            else:
                scheduler.step()
            epochs_without_gain = 0 if val_loss < lowest_loss else epochs_without_gain + 1
            lowest_loss = min(lowest_loss, val_loss)
            if patience is not None and epochs_without_gain >= patience:
                history.stopped_early = True
                break
    finally:  # after an interrupt or a NaN too: never leave the worst weights behind
        model.load_state_dict(best_weights)
    return history


def train_model(
    model: nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    num_epochs: int = 10,
    device: str | torch.device | None = None,
) -> nn.Module:
    """The chapter's training function: :func:`fit` with its defaults.

    Adam at 1e-3 on what is trainable, the rate halved when the validation loss stalls, and, unlike the
    chapter's listing, the best model is also the one that is returned. ``device=None`` takes the best
    device there is, where the chapter's ``"cuda"`` fails on a laptop.

    Returns
    -------
    nn.Module
        The same model, with the weights of its best epoch.
    """
    fit(model, train_loader, val_loader, num_epochs=num_epochs, device=device)
    return model
