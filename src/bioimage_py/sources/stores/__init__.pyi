from .consolidated import (
    is_listed as is_listed,
    stale_entries as stale_entries,
    update_consolidated as update_consolidated,
)
from .family import StoreFamily as StoreFamily
from .hierarchy import (
    Node as Node,
    arrays_below as arrays_below,
    find_array as find_array,
    images_below as images_below,
    several_arrays as several_arrays,
)
from .make_room import (
    StoreRules as StoreRules,
    aside_of_the_dead as aside_of_the_dead,
    check_room as check_room,
    make_array as make_array,
    new_chunks as new_chunks,
    new_container as new_container,
    own_record as own_record,
    removable_array as removable_array,
    remove_array as remove_array,
    room_for_array as room_for_array,
    try_out as try_out,
)
from .multiscales import (
    coarser_paths as coarser_paths,
    first_dataset as first_dataset,
    group_attributes as group_attributes,
    image_paths as image_paths,
    level_paths as level_paths,
    with_multiscales as with_multiscales,
)
from .store_copy import (
    NOT_INSTALLED as NOT_INSTALLED,
    ObjectState as ObjectState,
    StoreCopier as StoreCopier,
    place_of as place_of,
    why_fetched as why_fetched,
)
from .tensorstore_array import (
    IN_HAND_BYTES as IN_HAND_BYTES,
    WRITTEN_BYTES as WRITTEN_BYTES,
    StoredArray as StoredArray,
    TensorStoreSource as TensorStoreSource,
    folder_of as folder_of,
    metadata_stamp as metadata_stamp,
    open_store as open_store,
    options_of as options_of,
    piece_shape as piece_shape,
    pieces_of as pieces_of,
    stored_size_of as stored_size_of,
)
from .tensorstore_handle import (
    from_tensorstore as from_tensorstore,
    open_tensorstore_spec as open_tensorstore_spec,
)
from .unfinished import (
    MARK_FOLDER as MARK_FOLDER,
    RECORD_FILE as RECORD_FILE,
    RECORD_MAKER as RECORD_MAKER,
    NewMarks as NewMarks,
    forget_runs_into as forget_runs_into,
    holds_metadata_only as holds_metadata_only,
    is_abandoned as is_abandoned,
    is_marked as is_marked,
    kept_run as kept_run,
    mark_file as mark_file,
    mark_new as mark_new,
    marking_new as marking_new,
    read_mark as read_mark,
    read_run_mark as read_run_mark,
    remove_mark as remove_mark,
    remove_run_mark as remove_run_mark,
    renew_mark as renew_mark,
    settle_mark as settle_mark,
    unfinished_at as unfinished_at,
    unfinished_text as unfinished_text,
    write_run_mark as write_run_mark,
)
