from .bdv import BdvFamily as BdvFamily
from .family import Hdf5Family as Hdf5Family
from .imaris import ImarisFamily as ImarisFamily
