from .layers import get_reader as get_reader, open_layers as open_layers
from .widget import CopyWidget as CopyWidget
