"""Arrow IPC, as files (Feather V2) and as streams. Everything in them is checked before it is looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from gradsentry_lib.samples.container import open_regular

FILE_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"
END = STREAM_MAGIC + b"\0\0\0\0"  # of a stream


def is_file_format(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(len(FILE_MAGIC)) == FILE_MAGIC


def find_cut(path: Path) -> str:
    """How a file shows at its end that it is cut short, "" where it does not."""
    with open_regular(path) as file:
        start = file.read(len(FILE_MAGIC))
        size = file.seek(0, 2)
        file.seek(max(0, size - len(END)))
        end = file.read()
    if start == FILE_MAGIC:
        return "" if end.endswith(FILE_MAGIC) else "ends without its footer"
    return "ends without its end mark" if start.startswith(STREAM_MAGIC) and end != END else ""


@contextmanager
def _reader(path: Path) -> Iterator[pa.RecordBatchReader | pa.ipc.RecordBatchFileReader]:
    """The batches of a file; one without its footer is read as the stream that lies in it."""
    found = find_cut(path)
    with pa.memory_map(str(path)) as file:
        is_file = is_file_format(path)
        if is_file and found:
            file.seek(8)
        try:
            reader = pa.ipc.open_file(file) if is_file and not found else pa.ipc.open_stream(file)
        except pa.ArrowException as error:
            raise ValueError(f"it is cut short (truncated) before its first row: {error}" if found else error) from None
        yield reader


def ipc_schema(path: Path) -> pa.Schema:
    """Raises ValueError if two columns share a name."""
    with _reader(path) as reader:
        names = reader.schema.names
        if len(set(names)) < len(names):
            raise ValueError("two columns share a name")
        return reader.schema


def ipc_batches(path: Path, cut: list[str]) -> Iterator[pa.RecordBatch]:
    """The record batches as they lie in the file. One that ends too early gives those before, and why into `cut`."""
    if found := find_cut(path):
        cut.append(found)
    with _reader(path) as reader:
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            for number in range(reader.num_record_batches):
                yield checked(reader.get_batch(number))
            return
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (pa.ArrowException, OSError):
                if not found:
                    raise
                return
            yield checked(batch)


def checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, if no offset or index in it leads out of its buffers. Text that is not UTF-8 is a row's own fault.

    Raises ValueError (Arrow's) for any other fault: to look at such a batch may end the process.
    """
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if not ("UTF8" in str(error) and column.type in (pa.string(), pa.large_string())):
                raise
    return batch


def is_compressed(path: Path) -> bool:
    """Whether the batches of a file are compressed, told by its size."""
    held = 0
    for batch in ipc_batches(path, []):
        held += batch.nbytes
    return held > 1.05 * path.stat().st_size
