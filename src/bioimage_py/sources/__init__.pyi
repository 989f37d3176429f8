from .array_spec import ArraySpec as ArraySpec, Codec as Codec
from .base import (
    DIGEST_FILES as DIGEST_FILES,
    READ as READ,
    FileSource as FileSource,
    Source as Source,
    SourceSpec as SourceSpec,
    StoredSize as StoredSize,
    digest_is_kept as digest_is_kept,
)
from .casting import cast_values as cast_values, saturated as saturated
from .chunk_access import (
    encoded_reader as encoded_reader,
    encoded_writer as encoded_writer,
    encoding_of as encoding_of,
    planned_encoding as planned_encoding,
    stored_chunks as stored_chunks,
    stored_files as stored_files,
)
from .chunked import ChunkedFileSource as ChunkedFileSource
from .creating import (
    PlannedOutput as PlannedOutput,
    checked_fill as checked_fill,
    checked_new_dtype as checked_new_dtype,
    checked_overwrite as checked_overwrite,
    create_output as create_output,
    finish_images as finish_images,
    plan_output as plan_output,
    wanted_order as wanted_order,
    writable_family as writable_family,
)
from .family import Family as Family
from .identity import is_file_of as is_file_of, leaves as leaves, same_voxels as same_voxels
from .location import (
    Location as Location,
    family_by_content as family_by_content,
    family_by_suffix as family_by_suffix,
    locate as locate,
    may_be_zarr as may_be_zarr,
)
from .memory import NumpySource as NumpySource
from .opening import (
    OverriddenSource as OverriddenSource,
    as_source as as_source,
    coarser_levels as coarser_levels,
    open_source as open_source,
    override_metadata as override_metadata,
    place_of_level as place_of_level,
    with_metadata as with_metadata,
)
from .registry import (
    FamilyEntry as FamilyEntry,
    families as families,
    family_entry as family_entry,
    family_of as family_of,
    from_spec as from_spec,
)
