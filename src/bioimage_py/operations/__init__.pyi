from .array_copy import ArrayCopy as ArrayCopy
from .image_copy import (
    ImageCopy as ImageCopy,
    is_image_copy as is_image_copy,
    what_is_copied as what_is_copied,
)
from .job import Job as Job, carry_out as carry_out
from .options import (
    CopyOptions as CopyOptions,
    InputMetadata as InputMetadata,
    NewArray as NewArray,
    PyramidOptions as PyramidOptions,
    RunOptions as RunOptions,
    with_arguments_of as with_arguments_of,
)
from .pyramid_job import PyramidJob as PyramidJob
from .target import NewPathTarget as NewPathTarget, find_target as find_target
from .two_passes import room_beside_path as room_beside_path
