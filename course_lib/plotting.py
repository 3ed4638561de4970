"""Figures of the course in one look: readable in grey, on white, on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .training import History

# Okabe & Ito's colours for colour-blind readers, ordered so that neighbours also differ in grey; each line
# has its own dash pattern and marker besides, so no curve is told by its colour alone
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x")


def use_style() -> None:
    """Set matplotlib's parameters for the figures of this session: call it once in a notebook."""
    plt.rcParams.update(
        {
            "figure.dpi": 150,  # sharp on screens with two device pixels a point
            "figure.facecolor": "white",  # opaque: a transparent figure loses its black text on a dark page
            "savefig.facecolor": "white",
            "figure.figsize": (6.4, 3.6),
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=DASHES) + cycler(marker=MARKERS),
            "lines.markersize": 4,
            "legend.frameon": False,
            "image.cmap": "gray",
        }
    )


def learning_curves(histories: dict[str, History]) -> Figure:
    """Validation loss and accuracy over epochs, with the training accuracy in faint lines.

    Parameters
    ----------
    histories : dict of str to History
        One curve each, labelled by its key.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    for (label, history), color, marker in zip(histories.items(), COLORS, MARKERS, strict=False):
        epochs = np.arange(1, len(history.val_loss) + 1)
        left.plot(epochs, history.val_loss, color=color, marker=marker, linestyle="-", label=label)
        right.plot(epochs, history.val_accuracy, color=color, marker=marker, linestyle="-", label=f"{label}, val")
        right.plot(
            epochs, history.train_accuracy, color=color, marker="", linestyle=":", alpha=0.8, label=f"{label}, train"
        )
        best = history.best_epoch
        right.plot(best + 1, history.val_accuracy[best], "*", color=color, markersize=12, linestyle="")
    left.set(xlabel="epoch", ylabel="validation loss")
    right.set(xlabel="epoch", ylabel="accuracy")
    left.legend()
    right.legend(fontsize="small")
    return figure


def confusion_matrix(labels: Sequence[int], predictions: Sequence[int], classes: Sequence[str]) -> Figure:
    """Counts of predicted against true classes; numbers in the cells, so that no colour has to be read.

    Parameters
    ----------
    labels, predictions : sequence of int
        Class indices.
    classes : sequence of str
        Names, in the order of the indices.
    """
    from sklearn.metrics import ConfusionMatrixDisplay  # takes seconds to import

    figure, axes = plt.subplots(figsize=(6.2, 5.4))
    with plt.rc_context({"axes.grid": False}):
        ConfusionMatrixDisplay.from_predictions(
            labels,
            predictions,
            labels=range(len(classes)),
            display_labels=classes,
            cmap="Greys",
            colorbar=False,
            xticks_rotation=45,
            ax=axes,
        )
    axes.grid(False)
    plt.setp(axes.get_xticklabels(), ha="right")
    return figure


def images(
    pictures: Sequence[torch.Tensor],
    titles: Sequence[str] = (),
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    columns: int = 5,
    size: float = 1.5,
) -> Figure:
    """A grid of images.

    Parameters
    ----------
    pictures : sequence of Tensor
        Shape (3, H, W), uint8 or float.
    titles : sequence of str
        One above each image.
    mean, std : sequence of float
        Undo this normalisation of float images first.
    columns : int
        Images in a row.
    size : float
        Side of one image, in inches.
    """
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.25) * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for index, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        if picture.dtype == torch.uint8:
            shown = picture
        else:
            shown = (picture * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]).clamp(0, 1)
        axis.imshow(shown.permute(1, 2, 0).numpy())
        if index < len(titles):
            axis.set_title(titles[index], fontsize=8)
    return figure


def bars(axes: Axes, values: dict[str, Sequence[float]], *, label: str) -> None:
    """Means of several runs as bars, each run as a dot, so that the spread is seen.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    values : dict of str to sequence of float
        The runs of each bar.
    label : str
        What is measured, with its unit.
    """
    for position, (_, runs) in enumerate(values.items()):
        axes.bar(position, np.mean(runs), color="#bbd5e8", edgecolor="#0072B2", width=0.6)
        axes.plot([position] * len(runs), runs, linestyle="", marker="o", color="black", markersize=4)
    axes.set_xticks(range(len(values)), list(values))
    axes.set_ylabel(label)
    axes.grid(axis="x", visible=False)
