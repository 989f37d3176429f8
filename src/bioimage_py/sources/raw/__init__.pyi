from .voxels import (
    RawLayout as RawLayout,
    RawVoxels as RawVoxels,
    SingleFileSource as SingleFileSource,
    open_file as open_file,
)
