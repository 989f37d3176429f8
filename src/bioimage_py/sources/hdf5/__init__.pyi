from .array import (
    check_create as check_create,
    create as create,
    create_unfinished as create_unfinished,
    from_handle as from_handle,
    list_arrays as list_arrays,
    open_path as open_path,
    open_spec as open_spec,
)
from .chunks import Hdf5Chunks as Hdf5Chunks
from .index import DatasetOnDisk as DatasetOnDisk
from .live import Hdf5LiveSource as Hdf5LiveSource
from .read import Hdf5RegionSource as Hdf5RegionSource, Hdf5Source as Hdf5Source
