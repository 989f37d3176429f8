from .family import Hdf5Family as Hdf5Family
