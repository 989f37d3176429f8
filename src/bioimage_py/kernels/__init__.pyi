from .casting import Casting as Casting, can_hold as can_hold, cast as cast, check_casting as check_casting
from .cells import (
    boxes_of as boxes_of,
    cells_all as cells_all,
    cells_any as cells_any,
    cells_of as cells_of,
    cells_under as cells_under,
)
from .compare_blocks import CompareKernel as CompareKernel, Difference as Difference
from .copy_blocks import CopyKernel as CopyKernel
from .copy_objects import CopyObjectsKernel as CopyObjectsKernel
from .exact_values import differing as differing
from .move_chunks import MoveKernel as MoveKernel
from .moved_from import encoding_to_move as encoding_to_move, moving_origin as moving_origin
from .moving import MoveCounts as MoveCounts, MoveOptions as MoveOptions, MovingKernel as MovingKernel
from .moving_roads import kernel_for_road as kernel_for_road, moving_kernel as moving_kernel
from .pack_shards import PackKernel as PackKernel
from .parallel import side_by_side as side_by_side
from .pyramid_blocks import PyramidKernel as PyramidKernel, mover_for as mover_for
from .read_buffers import ReadBuffers as ReadBuffers
from .small_files import SmallFiles as SmallFiles
from .stage_timer import STAGES as STAGES, Meter as Meter, Tally as Tally
from .store_to_store import StoreToStore as StoreToStore
