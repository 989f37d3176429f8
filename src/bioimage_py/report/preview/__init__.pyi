from .page import (
    Lettering as Lettering,
    Panel as Panel,
    Picture as Picture,
    drawn_sizes as drawn_sizes,
    scale_bar as scale_bar,
)
from .plane import Plane as Plane
from .show import index_in_level as index_in_level, preview as preview
