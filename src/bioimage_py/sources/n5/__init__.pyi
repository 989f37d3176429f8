from .array import N5Family as N5Family
