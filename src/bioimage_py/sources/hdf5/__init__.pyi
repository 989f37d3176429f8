from .array import (
    check_create as check_create,
    create as create,
    create_unfinished as create_unfinished,
    from_handle as from_handle,
    list_arrays as list_arrays,
    open_path as open_path,
    open_spec as open_spec,
)
from .read import (
    DatasetOnDisk as DatasetOnDisk,
    Hdf5Chunks as Hdf5Chunks,
    Hdf5RegionSource as Hdf5RegionSource,
    Hdf5Source as Hdf5Source,
)
from .write import Hdf5LiveSource as Hdf5LiveSource
