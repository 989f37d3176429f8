from .page import Lettering as Lettering, Panel as Panel
from .picture import Picture as Picture
from .plane import Plane as Plane
from .show import preview as preview
