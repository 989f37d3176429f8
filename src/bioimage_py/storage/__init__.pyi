from .chunk_keys import (
    ChunkKeys as ChunkKeys,
    keys_in_use as keys_in_use,
    names_like as names_like,
    unused_chunks as unused_chunks,
)
from .compressed import (
    COMPRESSED_SUFFIXES as COMPRESSED_SUFFIXES,
    DAMAGED as DAMAGED,
    damaged as damaged,
    decompressing as decompressing,
    first_bytes as first_bytes,
    without_compression as without_compression,
)
from .crash_safety import (
    SIDE_FOLDER as SIDE_FOLDER,
    files_below as files_below,
    is_alive as is_alive,
    is_leftover as is_leftover,
    is_passing as is_passing,
    remove_files_of_the_dead as remove_files_of_the_dead,
    remove_leftovers as remove_leftovers,
    seen_in_time as seen_in_time,
    this_process as this_process,
    tried_again as tried_again,
    was_restarted as was_restarted,
)
from .engine_context import store_context as store_context
from .file_bytes import (
    MOST_READ as MOST_READ,
    SMALL as SMALL,
    FileBytes as FileBytes,
    OpenFiles as OpenFiles,
    Piece as Piece,
    ReadAhead as ReadAhead,
    Recent as Recent,
    SlowReads as SlowReads,
    StoredBytes as StoredBytes,
    file_error as file_error,
)
from .kvstore import (
    MOST_JSON as MOST_JSON,
    StoreFolder as StoreFolder,
    forget_reads as forget_reads,
    reads_remembered as reads_remembered,
)
from .names import (
    _LONGEST as _LONGEST,
    absolute_path as absolute_path,
    check_key as check_key,
    check_names as check_names,
    check_writable as check_writable,
    folder_above as folder_above,
    has_fields as has_fields,
    inner_name as inner_name,
    is_url as is_url,
    local_text as local_text,
    looks_like_pattern as looks_like_pattern,
    natural_key as natural_key,
    path_text as path_text,
    unknown_options as unknown_options,
    url_decoded as url_decoded,
)
from .new_files import (
    FileFolder as FileFolder,
    NewFile as NewFile,
    UnfinishedFile as UnfinishedFile,
    check_new_file as check_new_file,
)
from .object_folder import (
    NewObject as NewObject,
    ObjectBytes as ObjectBytes,
    ObjectFolder as ObjectFolder,
    OpenObject as OpenObject,
)
from .object_path import (
    AnyPath as AnyPath,
    ObjectLog as ObjectLog,
    ObjectPath as ObjectPath,
    any_path as any_path,
)
from .store_errors import (
    ENGINE_ERRORS as ENGINE_ERRORS,
    apart as apart,
    asking as asking,
    awaited as awaited,
    check_json as check_json,
    forget_failures as forget_failures,
    give_up_waiting as give_up_waiting,
    in_thread as in_thread,
    json_problem as json_problem,
    plain_message as plain_message,
    reads_metadata as reads_metadata,
    storage_error as storage_error,
    storage_errors as storage_errors,
)
from .store_place import (
    StorePlace as StorePlace,
    credentials_of as credentials_of,
    find_login as find_login,
    open_bucket as open_bucket,
    opened_bucket as opened_bucket,
    stores_reached as stores_reached,
    url_options as url_options,
)
from .stored_identity import (
    Identity as Identity,
    PartStamps as PartStamps,
    file_identity as file_identity,
    file_stamp as file_stamp,
    meet as meet,
    stamp_of_files as stamp_of_files,
    stamps_below as stamps_below,
    stat_stamp as stat_stamp,
    text_stamp as text_stamp,
)
