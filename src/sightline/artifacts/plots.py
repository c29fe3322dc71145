"""The pictures that a run leaves, by name. Each kind is drawn in a file of `artifacts/figures/`.

Numbers in, a file out: no settings, no state, and empty data gives a picture that says so.
"""

from sightline.artifacts.figures.batch_find import plot_batch_find
from sightline.artifacts.figures.confusion import plot_confusion_matrix
from sightline.artifacts.figures.curves import plot_metric_curve, plot_pr_curve
from sightline.artifacts.figures.history import plot_results
from sightline.artifacts.figures.labels import plot_labels
from sightline.artifacts.figures.lr_find import plot_lr_find
from sightline.artifacts.figures.mosaic import plot_images

__all__ = [
    "plot_batch_find",
    "plot_confusion_matrix",
    "plot_images",
    "plot_labels",
    "plot_lr_find",
    "plot_metric_curve",
    "plot_pr_curve",
    "plot_results",
]
