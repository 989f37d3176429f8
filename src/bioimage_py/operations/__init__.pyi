from .array_copy import ArrayCopy as ArrayCopy
from .beside import record_text as record_text
from .check_array import (
    ArrayCheck as ArrayCheck,
    CheckWork as CheckWork,
    Finding as Finding,
    threads_for as threads_for,
)
from .check_store import StoreCheck as StoreCheck
from .image_copy import (
    ImageCopy as ImageCopy,
    is_image_copy as is_image_copy,
)
from .job import Job as Job, carry_out as carry_out, continued as continued, warn_caller as warn_caller
from .levels_copy import LevelsCopy as LevelsCopy, levels_to_copy as levels_to_copy
from .options import (
    CopyOptions as CopyOptions,
    InputMetadata as InputMetadata,
    NewArray as NewArray,
    PyramidOptions as PyramidOptions,
    Reduction as Reduction,
    RunOptions as RunOptions,
    StoreAccess as StoreAccess,
    with_arguments_of as with_arguments_of,
)
from .pyramid_job import PyramidJob as PyramidJob, follow_levels as follow_levels
from .repair_array import Damaged as Damaged, Repair as Repair
from .series_copy import SeriesCopy as SeriesCopy, images_to_copy as images_to_copy
from .target import NewPathTarget as NewPathTarget, find_target as find_target
from .tile_digests import digest_of as digest_of, reading_plan as reading_plan
from .two_passes import room_beside_path as room_beside_path
from .whole_copy import WholeCopy as WholeCopy
