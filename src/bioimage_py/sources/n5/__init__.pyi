from .array import (
    check_create as check_create,
    create as create,
    from_handle as from_handle,
    list_arrays as list_arrays,
    list_coarser as list_coarser,
    open_path as open_path,
    open_spec as open_spec,
)
