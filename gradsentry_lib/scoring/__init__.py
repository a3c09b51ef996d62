"""From samples to scores, by the gradients of a causal language model."""

import os

# transformers would fetch compiled kernels from the hub and run them, where the package `kernels` is installed.
os.environ["USE_HUB_KERNELS"] = "NO"
