"""What Zarr, N5 and precomputed answer alike: arrays in folders or behind URLs that TensorStore reads and writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bioimage_py.errors import SourceNotFoundError, UnsupportedFormatError
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source, SourceSpec
from bioimage_py.sources.family import Family
from bioimage_py.sources.stores.hierarchy import Node, arrays_below
from bioimage_py.sources.stores.make_room import StoreRules, check_room, make_array, room_for_array
from bioimage_py.sources.stores.tensorstore_array import StoredArray, TensorStoreSource, open_store
from bioimage_py.sources.stores.unfinished import unfinished_text
from bioimage_py.storage import StoreFolder, plain_message, reads_metadata

_S = TypeVar("_S", bound=TensorStoreSource)


class StoreFamily(Family):
    """A family of stores. A subclass opens arrays, and says what is in the folders of the family and how a new array is made."""

    chunked = True
    several_writers = True

    store_rules: StoreRules  # what arrays and groups have in their folders

    def rules(self, zarr_format: int) -> StoreRules:
        del zarr_format
        return self.store_rules

    @abstractmethod
    def making(self, key: str | None, spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a new array as TensorStore takes it, after trying that, and its attributes.

        Raises UnsupportedFormatError for a dtype that the family cannot hold, and InvalidArgumentError for chunks, shards, a fill
        value, a key or a codec that it cannot have.
        """

    def make(self, making: dict[str, Any], attributes: Mapping[str, Any], folder: StoreFolder) -> None:
        del attributes
        make_array(making, folder)

    def opened(self, cls: type[_S], spec: dict[str, Any], stored: StoredArray, name: str, **how: Any) -> _S:
        """Open an array through TensorStore; UnsupportedFormatError if that does not know how it is stored."""
        try:
            return cls(open_store({**spec, "recheck_cached_data": True}, stored.mode, **how), stored)
        except (ValueError, NotImplementedError) as error:
            raise UnsupportedFormatError(
                f"{name} is stored in a way that cannot be read: {plain_message(error)}"
            ) from error

    @reads_metadata
    def list_arrays(self, path: str, **options: Any) -> list[str]:
        root, rules = StoreFolder.at(path, options), self.rules(3)
        node = rules.read_node(root)
        if node is None:
            raise SourceNotFoundError(f"there is no {rules.title} array or group at {root.path}")
        return [key for key, _ in arrays_below(node, rules.read_node)]

    def unfinished(self, source: Source) -> str:
        return unfinished_text(source)

    def folder_of(self, spec: SourceSpec) -> StoreFolder | None:
        return StoreFolder.of_spec(spec) if "path" in spec else None

    def problems(self, node: Node) -> Iterator[str]:
        """Yield what the metadata of an array hold against the specification, though it may be read all the same."""
        del node
        yield from ()

    def arrays_of(self, node: Node) -> Sequence[str | None]:
        """Return the keys of the arrays that are described in the folder of a node; None is that folder itself."""
        return () if node.array is None else (None,)

    def make_level(self, like: Node, folder: StoreFolder, shape: tuple[int, ...]) -> bool:
        """Make an array of another shape that is encoded as a level of its image is; False if that cannot be done here."""
        del like, folder, shape
        return False

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        self.making(key, spec)
        check_room(StoreFolder.at(path), key, overwrite, self.rules(spec.zarr_format))

    def create(
        self,
        path: str,
        key: str | None,
        spec: ArraySpec,
        overwrite: bool = False,
        *args: Any,
        how: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Source:
        """Make a new array, and the groups around it, and open it for writing; options say how a URL is reached.

        `how` goes to `make`. Besides what `making` raises there are OutputExistsError if something is there that may not, or must
        not, be replaced, InvalidArgumentError for a place inside another array, and ReadOnlyError and StorageError.
        """
        del args
        making, attributes = self.making(key, spec)
        root = StoreFolder.at(path, options)
        with room_for_array(root, key, overwrite, self.rules(spec.zarr_format)) as folder:
            self.make(making, attributes, folder, **(how or {}))
            return self.open_path(path, key, "r+", **options)
