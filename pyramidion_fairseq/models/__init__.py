"""The model and its named architectures."""

from . import architectures
from .pyramidion import PyramidionModel

__all__ = ["PyramidionModel", "architectures"]
