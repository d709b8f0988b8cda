"""Where does a key belong: the partition Kafka's default partitioner would choose, and how row keys are written."""

from typing import Final

_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Hash as Kafka's Java client does (MurmurHash2, seed 0x9747b28c), as an unsigned 32-bit integer."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = (int.from_bytes(data[at : at + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    if length & 3:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition Kafka's default partitioner gives a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def dimension_key(dimension: str, labels: tuple[str, ...]) -> str:
    """Write a dimension and its label values as one string; bars in values are escaped, so keys never collide."""
    if not labels:
        return dimension
    return dimension + "|" + "|".join(label.replace("\\", "\\\\").replace("|", "\\|") for label in labels)
