from .casting import (
    Casting as Casting,
    can_hold as can_hold,
    cast as cast,
    check_casting as check_casting,
    differing as differing,
)
from .cells import (
    boxes_of as boxes_of,
    cells_all as cells_all,
    cells_any as cells_any,
    cells_of as cells_of,
    cells_under as cells_under,
)
from .compare_blocks import CompareKernel as CompareKernel, Difference as Difference
from .copy_blocks import (
    CopyKernel as CopyKernel,
    ReadBuffers as ReadBuffers,
    StoreToStore as StoreToStore,
    units_of as units_of,
)
from .copy_objects import CopyObjectsKernel as CopyObjectsKernel
from .move_chunks import MoveKernel as MoveKernel, SmallFiles as SmallFiles
from .moving import MoveOptions as MoveOptions, MovingKernel as MovingKernel, SideBySide as SideBySide
from .moving_roads import kernel_for_road as kernel_for_road, moving_kernel as moving_kernel
from .pack_shards import PackKernel as PackKernel
from .pyramid_blocks import PyramidKernel as PyramidKernel, mover_for as mover_for
from .stage_timer import STAGES as STAGES, Meter as Meter, Tally as Tally
from .stored_parts import encoding_to_move as encoding_to_move, moving_origin as moving_origin
from .tile_hashes import (
    TILE_BYTES as TILE_BYTES,
    TileDigest as TileDigest,
    TileKernel as TileKernel,
    TileTable as TileTable,
    tile_hashes as tile_hashes,
)
from .write_units import BlockUnits as BlockUnits
