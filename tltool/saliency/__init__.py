"""Which parts of an image a classifier's answer rests on, and whether that can be believed."""

from tltool.saliency.activation_maps import (
    class_activation_maps,
    grad_cam,
    shares_of_score,
)
from tltool.saliency.fidelity import Fidelity, fidelity, rank_correlation, shuffled
from tltool.saliency.occlusion import OcclusionMap, batch_of, default_patch, occlusion_map
from tltool.saliency.split_network import SplitNetwork, kernel_layers

__all__ = [
    "Fidelity",
    "OcclusionMap",
    "SplitNetwork",
    "batch_of",
    "class_activation_maps",
    "default_patch",
    "fidelity",
    "grad_cam",
    "kernel_layers",
    "occlusion_map",
    "rank_correlation",
    "shares_of_score",
    "shuffled",
]
