"""Objects in Azure, asked for as TensorStore is asked for those of other stores: it does not reach Azure, and obstore does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, TypeVar

from bioimage_py.storage.store_errors import in_thread, plain_message
from bioimage_py.storage.store_place import StorePlace, opened_bucket

_R = TypeVar("_R")


class AzureObjects:
    """The objects below a place, with those methods of `tensorstore.KvStore` that are used here; they raise as those do."""

    def __init__(self, place: StorePlace) -> None:
        self.place = place
        self._bucket = opened_bucket(place, "an array at az://")

    def read(self, key: str, byte_range: slice | None = None) -> Future[Any]:
        return _asked(lambda: self._read(self.place.begin + key, byte_range))

    def write(self, key: str, data: bytes | None) -> Future[None]:
        return _asked(lambda: self._write(self.place.begin + key, data))

    def list(self, keys: Any = None) -> Future[Sequence[bytes]]:
        return _asked(lambda: self._list(keys))

    def delete_range(self, keys: Any) -> Future[None]:
        return _asked(lambda: self._delete(self._list(keys)))

    def _read(self, name: str, part: slice | None) -> Any:
        import obstore

        how: dict[str, Any] = {}
        try:
            if part is not None and part.start < 0:
                # Azure does not know ranges that count from the end.
                seen = obstore.head(self._bucket, name)
                how = {"range": (max(0, seen["size"] + part.start), seen["size"]), "if_match": seen["e_tag"]}
            elif part is not None:
                how = {"range": {"offset": part.start} if part.stop is None else (part.start, part.stop)}
            found = obstore.get(self._bucket, name, options=how)
            data, tag = bytes(found.bytes()), str(found.meta["e_tag"])
        except FileNotFoundError:
            return SimpleNamespace(state="missing")
        stamp = SimpleNamespace(generation=tag.encode())
        return SimpleNamespace(state="value", value=data, stamp=stamp)

    def _write(self, name: str, data: bytes | None) -> None:
        import obstore

        if data is not None:
            obstore.put(self._bucket, name, data)
            return
        try:
            obstore.delete(self._bucket, name)
        except FileNotFoundError:
            return  # there was none

    def _list(self, keys: Any) -> Sequence[bytes]:
        import obstore

        low, high = (b"", b"") if keys is None else (keys.inclusive_min, keys.exclusive_max)
        # What is listed is below a name: that of the folder, or the only one that is asked for.
        text = low.decode()
        below = self.place.begin + (text if high == low + b"\0" else text.rpartition("/")[0])
        listed = obstore.list(self._bucket, below or None, chunk_size=1000)
        names = [each["path"].removeprefix(self.place.begin).encode() for page in listed for each in page]
        return sorted(name for name in names if low <= name and (not high or name < high))

    def _delete(self, names: Sequence[bytes]) -> None:
        import obstore

        for n in range(0, len(names), 1000):
            obstore.delete(self._bucket, [self.place.begin + name.decode() for name in names[n : n + 1000]])


def _asked(call: Callable[[], _R]) -> Future[_R]:
    def translated() -> _R:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            return call()
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise PermissionError(f"PERMISSION_DENIED: {plain_message(error)}") from error
        except (BaseError, FileNotFoundError) as error:
            text = plain_message(error)
            raise OSError(f"NOT_FOUND: {text}" if "ContainerNotFound" in text else text) from error

    return in_thread(translated)
