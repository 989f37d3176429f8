from .names import image_suffixes_in as image_suffixes_in, list_slices as list_slices
from .pattern import NamePattern as NamePattern
from .stack import StackFamily as StackFamily
