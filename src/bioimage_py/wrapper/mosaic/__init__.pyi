from .family import MosaicFamily as MosaicFamily
from .source import MosaicSource as MosaicSource
