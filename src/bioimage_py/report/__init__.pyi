from .appearance import (
    blended as blended,
    label_colors as label_colors,
    percentile_limits as percentile_limits,
    rgb_colors as rgb_colors,
)
from .description import (
    shape_text as shape_text,
    source_rows as source_rows,
    voxel_size_text as voxel_size_text,
)
from .layers import Layer as Layer, image_layers as image_layers
from .look import Look as Look
from .preview.page import drawn_sizes as drawn_sizes, scale_bar as scale_bar
from .preview.show import index_in_level as index_in_level
