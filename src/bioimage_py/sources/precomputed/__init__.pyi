from .array import PrecomputedFamily as PrecomputedFamily
