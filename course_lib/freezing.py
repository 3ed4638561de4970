"""Which stages are trained: freezing, unfreezing, and frozen parts that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .backbones import stages


def freeze_until(model: nn.Module, stage: str) -> list[str]:
    """Freeze every stage before ``stage``; that stage and all after it become trainable.

    Parameters
    ----------
    model : nn.Module
        Anything that :func:`~course_lib.stages` accepts.
    stage : str
        Name of the first trainable stage.

    Returns
    -------
    list of str
        Names of the stages that are now trainable.

    Raises
    ------
    ValueError
        The model has no stage of that name; the message lists its stages.
    """
    names = list(stages(model))
    if stage not in names:
        raise ValueError(f"no stage {stage!r}; the stages are {', '.join(names)}")
    return _set_boundary(model, names.index(stage))


def unfreeze_layers(model: nn.Module, num_layers_to_unfreeze: int) -> list[str]:
    """Make the last N stages trainable and freeze the rest.

    Parameters
    ----------
    model : nn.Module
        Anything that :func:`~course_lib.stages` accepts.
    num_layers_to_unfreeze : int
        How many stages, counted from the output, the head included: 1 is the head alone.
        (Counting parameter tensors instead, as is often seen, unfreezes half of a block.)

    Returns
    -------
    list of str
        Names of the stages that are now trainable.

    Raises
    ------
    ValueError
        N is not between 1 and the number of stages.
    """
    total = len(stages(model))
    if not 1 <= num_layers_to_unfreeze <= total:
        raise ValueError(f"num_layers_to_unfreeze must be between 1 and {total} stages, not {num_layers_to_unfreeze}")
    return _set_boundary(model, total - num_layers_to_unfreeze)


def _set_boundary(model: nn.Module, boundary: int) -> list[str]:
    parts = stages(model)
    for index, module in enumerate(parts.values()):
        for parameter in module.parameters():
            parameter.requires_grad = index >= boundary
            if index < boundary:
                # not zero but None: with a zero gradient, momentum and weight decay still move the weight
                parameter.grad = None
    return list(parts)[boundary:]


def freeze_boundary(model: nn.Module) -> int:
    """Index of the first stage that has a trainable parameter.

    Raises
    ------
    ValueError
        Nothing is trainable.
    """
    for index, module in enumerate(stages(model).values()):
        if any(p.requires_grad for p in module.parameters()):
            return index
    raise ValueError("no parameter is trainable; unfreeze_layers(model, 1) makes the head trainable")


def train_mode(model: nn.Module) -> None:
    """Switch to training mode, but leave frozen stages in evaluation mode.

    ``model.train()`` alone lets the running mean and variance of frozen BatchNorm layers move with every
    batch (pytorch issue 86590) and turns dropout on in layers that do not learn. Frozen means frozen: the
    stages before the boundary, and any later stage whose parameters are all frozen, compute what they
    computed before.
    """
    boundary = freeze_boundary(model)
    model.train()
    for index, module in enumerate(stages(model).values()):
        parameters = list(module.parameters())
        if index < boundary or (parameters and not any(p.requires_grad for p in parameters)):
            module.eval()


@dataclass(frozen=True)
class ParameterCount:
    """Trainable and total number of parameters; ``str()`` gives the line that the chapter prints."""

    trainable: int
    total: int

    @property
    def percent(self) -> float:
        """Trainable share in per cent."""
        return 100 * self.trainable / self.total

    def __str__(self) -> str:
        return f"trainable {self.trainable:,} of {self.total:,} parameters ({self.percent:.2f}%)"


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count the parameters of a model, and those of them that are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return ParameterCount(sum(n for n, grad in sizes if grad), sum(n for n, _ in sizes))


def parameter_groups(model: nn.Module, rates: float | dict[str, float]) -> list[dict]:
    """One optimizer group a stage, named after it, each with its own learning rate.

    Parameters
    ----------
    model : nn.Module
        Anything that :func:`~course_lib.stages` accepts.
    rates : float or dict of str to float
        Learning rate of each trainable stage. A float is the same rate for all of them.

    Returns
    -------
    list of dict
        ``{"params": [...], "lr": ..., "name": stage}`` for each stage with trainable parameters,
        ready for any torch optimizer.

    Raises
    ------
    ValueError
        A name is no stage, a trainable stage has no rate, or nothing is trainable.
    """
    parts = stages(model)
    trainable = {n: [p for p in m.parameters() if p.requires_grad] for n, m in parts.items()}
    trainable = {n: ps for n, ps in trainable.items() if ps}
    if not trainable:
        raise ValueError("no parameter is trainable; unfreeze_layers(model, 1) makes the head trainable")
    if not isinstance(rates, dict):
        rates = dict.fromkeys(trainable, rates)
    if unknown := [n for n in rates if n not in parts]:
        raise ValueError(f"rates name {', '.join(unknown)}, but the stages are {', '.join(parts)}")
    if missing := [n for n in trainable if n not in rates]:
        raise ValueError(f"no learning rate for the trainable stages {', '.join(missing)}")
    return [{"params": ps, "lr": rates[n], "name": n} for n, ps in trainable.items()]
