"""Looking at a picture: what it costs in memory at the limit of pixels, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_LARGEST = """
import io, struct, zlib
from pathlib import Path
from fieldsvc.sync import pictures

def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

lines = zlib.compressobj()
packed = b"".join(lines.compress(bytes(1 + 4 * 8000)) for _ in range(8000)) + lines.flush()
head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 6, 0, 0, 0))
seen = pictures.look(io.BytesIO(b"\\x89PNG\\r\\n\\x1a\\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")))
assert seen.fault is None and seen.thumbnail and seen.width * seen.height == pictures.PIXELS
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def test_the_largest_picture_is_held_twice_and_no_more() -> None:
    done = subprocess.run([sys.executable, "-c", _LARGEST], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 620_000, "kB: twice 64 million pixels of 4 bytes, and what Python takes"
