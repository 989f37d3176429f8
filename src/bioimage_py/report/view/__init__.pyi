from .neuroglancer_server import NeuroglancerServer as NeuroglancerServer
from .show import View as View, view as view
