from .array import (
    check_create as check_create,
    create as create,
    create_unfinished as create_unfinished,
    from_handle as from_handle,
    identities_at as identities_at,
    list_arrays as list_arrays,
    open_path as open_path,
    open_spec as open_spec,
)
from .family import Hdf5Family as Hdf5Family
from .read import Hdf5Chunks as Hdf5Chunks
