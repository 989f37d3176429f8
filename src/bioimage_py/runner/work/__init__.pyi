from .composite import CompositeWork as CompositeWork, ready_blocks as ready_blocks
from .copying import CopyWork as CopyWork
from .counts import counted_anew as counted_anew, counting as counting, tally_of as tally_of
from .deferred import MOST_OPEN as MOST_OPEN, DeferredWork as DeferredWork, WorkShelf as WorkShelf
from .fingerprint import check_fingerprint as check_fingerprint, fingerprint_of as fingerprint_of
from .functions import BlockFunctionWork as BlockFunctionWork
from .given_ids import ids_from as ids_from
from .items import ItemFunctionWork as ItemFunctionWork
from .portable import (
    has_functions as has_functions,
    store_work as store_work,
    with_functions_of as with_functions_of,
)
from .pyramid import PyramidWork as PyramidWork
from .reopening import load_work as load_work
from .stored_in_all import encoded_sizes as encoded_sizes
from .temporary_place import TEMPORARY_MARK as TEMPORARY_MARK, TemporaryPlace as TemporaryPlace
from .two_passes import (
    TwoPassWork as TwoPassWork,
    asked_of as asked_of,
    begun_ids as begun_ids,
    close_temporary_store as close_temporary_store,
    ended_without_folder as ended_without_folder,
    place_of_run as place_of_run,
)
from .work import BlockGroups as BlockGroups, PortableWork as PortableWork, Work as Work
