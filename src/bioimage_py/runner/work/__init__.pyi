from .block_work import BlockGroups as BlockGroups, BlockWork as BlockWork, stored_blocks as stored_blocks
from .composite import CompositeWork as CompositeWork
from .copying import CopyWork as CopyWork
from .deferred import MOST_OPEN as MOST_OPEN, DeferredWork as DeferredWork, WorkShelf as WorkShelf
from .functions import BlockFunctionWork as BlockFunctionWork
from .items import ItemFunctionWork as ItemFunctionWork, ids_from as ids_from
from .pyramid import PyramidWork as PyramidWork
from .stored_sources import input_fingerprint as input_fingerprint, input_spec as input_spec
from .two_passes import (
    TEMPORARY_MARK as TEMPORARY_MARK,
    TemporaryPlace as TemporaryPlace,
    TwoPassWork as TwoPassWork,
    begun_ids as begun_ids,
    begun_with_hashes as begun_with_hashes,
    ended_without_folder as ended_without_folder,
    place_of_run as place_of_run,
)
from .work import Work as Work, differences as differences, load_work as load_work
