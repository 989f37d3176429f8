from .coloring import (
    CHANNEL_COLORS as CHANNEL_COLORS,
    blended as blended,
    channel_limits as channel_limits,
    label_colors as label_colors,
    rgb_colors as rgb_colors,
)
from .lettering import Lettering as Lettering
from .page import Panel as Panel
from .picture import Picture as Picture
from .plane import Plane as Plane
from .show import preview as preview
