"""Models and their named architectures."""

from . import architectures
from .pyramidion import PyramidionModel

__all__ = ["PyramidionModel", "architectures"]
