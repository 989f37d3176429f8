from .voxels import SingleFileSource as SingleFileSource, open_file as open_file
