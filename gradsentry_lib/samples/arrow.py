"""Sources that are tables: Parquet and Arrow files, saved `datasets` folders, data sets of the Hugging Face hub."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib.errors import UnusableInput
from gradsentry_lib.samples import ipc
from gradsentry_lib.samples.container import FREE, RATIO, open_regular, too_large
from gradsentry_lib.samples.part import Part
from gradsentry_lib.samples.row_format import BadRow

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 1024  # rows held at a time; they may be long
PARQUET_MAGIC = b"PAR1"
TEXT_OF = {pa.binary(): pa.string(), pa.large_binary(): pa.large_string(), pa.binary_view(): pa.string_view()}
PLAIN_OF = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def has_footer(path: Path) -> bool:
    """Whether a Parquet file ends as one does. Without its footer nothing of it can be read."""
    with open_regular(path) as file:
        if file.seek(0, 2) < 12:
            return False
        file.seek(-4, 2)
        return file.read() == PARQUET_MAGIC


def check_parquet_size(path: Path, limit: int) -> None:
    """Raises `BadInput` where a file says that it unpacks to more than the limit, or to more than data ever does."""
    metadata = pq.read_metadata(path)
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if size > limit:
        raise UnusableInput(too_large(f"what {path} unpacks to", size, limit))
    if size > max(FREE, RATIO * path.stat().st_size):
        raise UnusableInput(f"{path} unpacks to more than {RATIO} times its size, as no data does; it is not read")


def parquet_schema(path: Path) -> pa.Schema:
    """Columns, types and metadata of a file. Raises ValueError if two columns share a name."""
    schema = pq.read_schema(path)
    if len(set(schema.names)) < len(schema.names):
        raise ValueError("two columns share a name")
    return schema


def parquet_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one file, `BATCH_ROWS` at a time. Of `columns` those it has are read, all if it has none."""
    present = _present(columns, parquet_schema(path).names)
    with pq.ParquetFile(path) as file:
        yield from batches_of(file, BATCH_ROWS, present)


def batches_of(file: pq.ParquetFile, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file, at most `rows` at a time, one row group after the other: asked for all of them at once, Arrow
    lets go of none before the last."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(rows, [group], columns, use_threads=False)


def ipc_batches(path: Path, columns: list[str] | None, cut: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of an Arrow file, as `parquet_batches` gives those of a Parquet file."""
    present = _present(columns, ipc.ipc_schema(path).names)
    for batch in ipc.ipc_batches(path, cut):
        chosen = batch.select(present) if present else batch
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield chosen.slice(start, BATCH_ROWS)


def schema_of(part: Part) -> pa.Schema:
    """Columns, types and metadata of a file."""
    return parquet_schema(part.path) if part.kind == "parquet" else ipc.ipc_schema(part.path)


def part_batches(part: Part, columns: list[str] | None, cut: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file, `BATCH_ROWS` at a time. Where it is cut short, `cut` says how."""
    if part.kind == "parquet":
        return parquet_batches(part.path, columns)
    return ipc_batches(part.path, columns, cut)


def _present(columns: list[str] | None, existing: list[str]) -> list[str] | None:
    return [name for name in existing if name in columns] or None if columns else None  # without a column, no rows


def take(batch: pa.RecordBatch, rows: Any) -> pa.RecordBatch:
    """Some rows of a batch (ascending numbers), also where Arrow cannot pick from a type (views): then runs of rows."""
    try:
        return batch.take(pa.array(rows))
    except pa.ArrowNotImplementedError:
        runs: list[list[int]] = []
        for row in map(int, rows):
            if runs and runs[-1][1] == row:
                runs[-1][1] += 1
            else:
                runs.append([row, row + 1])
        slices = [batch.slice(start, stop - start) for start, stop in runs] or [batch.slice(0, 0)]
        return pa.concat_batches(slices)


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is one of `save_to_disk`: its table is there, or its splits."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    )


def saved_files(path: Path) -> dict[str, list[Path]]:
    """The files of each split of a folder made by `save_to_disk`, as it lists them itself; "" for one without splits.

    Raises `BadInput` where it lists a file or a split outside its folder.
    """
    with _loading(f"cannot load the data set {path}"):
        marks = path / "dataset_dict.json"
        names = json.loads(marks.read_bytes())["splits"] if marks.is_file() else [""]
        found = {}
        for name in names:
            folder = path / name
            listed = [item["filename"] for item in json.loads((folder / "state.json").read_bytes())["_data_files"]]
            if any(Path(item).name != item for item in (*listed, name) if item):
                raise ValueError("it lists a file outside its folder")
            found[name] = [folder / item for item in listed]
        return found


def saved_cuts(files: Mapping[str, list[Path]], path: Path) -> list[str]:
    """What a saved data set lacks, in sentences."""
    told = []
    for file in (file for split in files.values() for file in split):
        name = file.relative_to(path).as_posix()
        if not file.exists():
            told.append(f"{name} is missing")
        elif found := ipc.find_cut(file):
            told.append(f"{name} {found}")
    return told


def load_saved(path: Path) -> "dict[str, Dataset]":
    """The splits of a folder made by `save_to_disk`, memory-mapped; a data set without splits has the key "".

    Of one that is not whole what can be read.
    """
    import datasets

    datasets.disable_progress_bars()
    files = saved_files(path)
    with _loading(f"cannot load the data set {path}"):
        if saved_cuts(files, path):
            return {name: _rescue(path / name, shards) for name, shards in files.items()}
        loaded = datasets.load_from_disk(path)
    return dict(loaded) if isinstance(loaded, dict) else {"": loaded}


def _rescue(folder: Path, shards: list[Path]) -> "Dataset":
    import datasets
    from datasets.table import InMemoryTable

    there = [file for file in shards if file.exists()]
    if not there:
        raise ValueError("it is cut short (truncated): none of its files are there")
    batches = [batch for file in there for batch in ipc.ipc_batches(file, [])]
    table = pa.Table.from_batches(batches, ipc.ipc_schema(there[0]))
    return datasets.Dataset(InMemoryTable(table), info=datasets.DatasetInfo.from_directory(str(folder)))


def hub_revision(name: str) -> str:
    """The commit that a hub data set stands at now. Raises `BadInput` where the hub or the data set is not there."""
    from huggingface_hub import HfApi

    with _loading(f"{name} is no file or folder here, and cannot be had from the Hugging Face hub"):
        info = HfApi().dataset_info(name, timeout=20)
    script = f"{name.rpartition('/')[2]}.py"
    if any(file.rfilename == script for file in getattr(info, "siblings", None) or ()):
        raise UnusableInput(f"{name} is loaded by a program of its own, {script}, which is never run; use one of files")
    return str(info.sha)


def load_hub(name: str, config: str | None, split: str | None, revision: str) -> "dict[str, Dataset]":
    """The splits of a hub data set at a commit, downloaded once into the cache of `datasets` and memory-mapped there.

    It is not streamed from the hub: a scan reads its source three times.
    """
    import datasets

    datasets.disable_progress_bars()
    with _loading(f"cannot load {name} from the Hugging Face hub"):
        loaded = datasets.load_dataset(name, config, split=split, revision=revision)
    return dict(loaded) if isinstance(loaded, dict) else {split or "": loaded}


@contextmanager
def _loading(message: str) -> Iterator[None]:
    """Turns whatever a loader raises, of whatever library, into one line."""
    try:
        yield
    except Exception as error:  # loaders of a dozen formats raise what they like
        raise UnusableInput(f"{message}: {' '.join(str(error).split())[:500] or type(error).__name__}") from None


def dataset_batches(dataset: "Dataset", columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one split, as `parquet_batches` gives those of a file."""
    if present := _present(columns, dataset.column_names):
        dataset = dataset.select_columns(present)
    for table in dataset.with_format("arrow").iter(BATCH_ROWS):
        yield from map(ipc.checked, table.to_batches())


def objects(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any] | BadRow]:
    """The rows of a batch as Python objects; a row with text that is not UTF-8, or a date out of range, is bad."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError, pa.ArrowException):
        pass
    for row in range(batch.num_rows):
        try:
            yield batch.slice(row, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield BadRow("invalid UTF-8")
        except (ValueError, OverflowError, pa.ArrowException):
            yield BadRow("a value that cannot be read")


def as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its bytes read as text: what writes Parquet often does not say that its strings are some.

    A column in which any value is no UTF-8 stays as it is.
    """
    columns = []
    for column in batch.columns:
        kind = replaced(column.type, TEXT_OF)
        try:
            columns.append(column if kind == column.type else column.cast(kind))
        except pa.ArrowException:
            columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def replaced(kind: pa.DataType, by: Mapping[pa.DataType, pa.DataType]) -> pa.DataType:
    """A type with others in the place of some, also inside lists, objects, maps; a dictionary of such is unpacked."""
    if kind in by:
        return by[kind]
    if pa.types.is_list(kind):
        return pa.list_(_field(kind.value_field, by))
    if pa.types.is_large_list(kind):
        return pa.large_list(_field(kind.value_field, by))
    if pa.types.is_struct(kind):
        return pa.struct([_field(field, by) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_field(kind.key_field, by), _field(kind.item_field, by))
    if pa.types.is_dictionary(kind) and kind.value_type in by:
        return by[kind.value_type]
    return kind


def _field(field: pa.Field, by: Mapping[pa.DataType, pa.DataType]) -> pa.Field:
    return field.with_type(replaced(field.type, by))


def without_inner_views(schema: pa.Schema) -> pa.Schema:
    """The schema with plain text and bytes for the views inside lists and objects, which Arrow cannot write."""
    return pa.schema(
        [field if field.type in PLAIN_OF else _field(field, PLAIN_OF) for field in schema], metadata=schema.metadata
    )
