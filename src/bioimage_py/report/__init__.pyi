from .appearance import (
    blended as blended,
    label_colors as label_colors,
    percentile_limits as percentile_limits,
    rgb_colors as rgb_colors,
)
from .proportions import drawn_sizes as drawn_sizes, index_in_level as index_in_level, scale_bar as scale_bar
