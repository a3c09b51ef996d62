"""What is taken of Dagster that it does not export, in one place.

tests/test_private_apis.py reads each of these from the installed version, and says which version moved.
"""

from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "PARTITION_NAME_TAG",
    "AssetKeyPartitionKey",
]
