from .blocking import (
    Block as Block,
    Blocking as Blocking,
    BlockWithHalo as BlockWithHalo,
    check_block_shape as check_block_shape,
    checked_extents as checked_extents,
    to_roi as to_roi,
)
from .box import Box as Box
from .chunk_shape import (
    default_chunks as default_chunks,
    sensible_chunks as sensible_chunks,
    tile_shape as tile_shape,
)
from .id_set import IdSet as IdSet, IdSetBuilder as IdSetBuilder
from .index import as_integer as as_integer, basic_index as basic_index, checked_whole as checked_whole
