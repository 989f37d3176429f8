from .names import image_suffixes_in as image_suffixes_in
from .stack import StackFamily as StackFamily
