from .array import (
    check_create as check_create,
    create as create,
    format_around as format_around,
    from_handle as from_handle,
    group_path as group_path,
    list_arrays as list_arrays,
    list_coarser as list_coarser,
    open_path as open_path,
    open_spec as open_spec,
    probe_url as probe_url,
    store_rules as store_rules,
)
from .codecs import (
    BLOSC_NAMES as BLOSC_NAMES,
    blosc_choice as blosc_choice,
    checked_codec as checked_codec,
    checked_level as checked_level,
    codec_text as codec_text,
)
from .encoding import encoding_from_metadata as encoding_from_metadata
from .files import ZarrFilesSource as ZarrFilesSource
from .metadata import (
    array_metadata as array_metadata,
    checked_grid as checked_grid,
    group_files as group_files,
    image_metadata as image_metadata,
    read_node as read_node,
    zarr_format_of as zarr_format_of,
)
