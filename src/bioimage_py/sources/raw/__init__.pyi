from .raw_file import RawLayout as RawLayout, RawVoxels as RawVoxels
from .single_file import SingleFileSource as SingleFileSource, open_file as open_file
