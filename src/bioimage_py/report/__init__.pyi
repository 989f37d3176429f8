from .proportions import drawn_sizes as drawn_sizes, index_in_level as index_in_level, scale_bar as scale_bar
