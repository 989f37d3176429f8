from .codec import ChunkCodec as ChunkCodec
from .encoded_chunks import (
    ChunkFiles as ChunkFiles,
    ChunkObjects as ChunkObjects,
    EncodedReader as EncodedReader,
    FilePlace as FilePlace,
    NamedChunks as NamedChunks,
)
from .encoded_shards import (
    NewShard as NewShard,
    Shard as Shard,
    ShardedChunks as ShardedChunks,
    ShardedObjects as ShardedObjects,
    number_in as number_in,
)
from .encoding import (
    BLOSC_SHUFFLES as BLOSC_SHUFFLES,
    CODECS as CODECS,
    NUMBERS as NUMBERS,
    AnyArray as AnyArray,
    ChunkEncoding as ChunkEncoding,
    CodecStep as CodecStep,
    ShardIndexEncoding as ShardIndexEncoding,
    StoredChunks as StoredChunks,
    UnknownEncoding as UnknownEncoding,
    byte_order_of as byte_order_of,
    codec_step as codec_step,
    fill_bytes as fill_bytes,
)
from .encoding_match import EncodingMatch as EncodingMatch, compare_encodings as compare_encodings
from .file_regions import ArrayInFile as ArrayInFile, read_region as read_region, write_region as write_region
from .filters import (
    Filter as Filter,
    FilterPipeline as FilterPipeline,
    blosc_decoded as blosc_decoded,
    codec_text as codec_text,
    encode_gzip as encode_gzip,
    gzip_level_to_encode as gzip_level_to_encode,
)
from .frames import (
    ChunkFrames as ChunkFrames,
    PayloadCheck as PayloadCheck,
    crc32c_bytes as crc32c_bytes,
    read_n5_header as read_n5_header,
    why_all_bytes as why_all_bytes,
)
from .scratch import Scratch as Scratch, copy_rows as copy_rows
from .shared_threads import SharedThreads as SharedThreads
