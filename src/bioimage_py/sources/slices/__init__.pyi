from .names import image_suffixes_in as image_suffixes_in
from .stack import StackSource as StackSource, open_path as open_path, open_spec as open_spec
