from .array import ZarrFamily as ZarrFamily, group_path as group_path, open_array as open_array
from .codecs import (
    blosc_fields as blosc_fields,
    checked_codec as checked_codec,
    checked_level as checked_level,
    codec_text as codec_text,
    keeping as keeping,
    kept_codec as kept_codec,
)
from .encoding import encoding_from_metadata as encoding_from_metadata
from .files import ZarrFilesSource as ZarrFilesSource
from .metadata import (
    ARRAY_FILES as ARRAY_FILES,
    described_array as described_array,
    group_files as group_files,
    image_metadata as image_metadata,
    make_zarr_array as make_zarr_array,
    read_node as read_node,
    store_rules as store_rules,
    tensorstore_spec as tensorstore_spec,
    zarr_format_of as zarr_format_of,
)
from .registered import registered_names as registered_names
