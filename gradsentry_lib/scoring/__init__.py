"""From samples to scores, by the gradients of a causal language model.

In: samples, a model (a folder, a GGUF file, an adapter, a hub name) and a `ScoringConfig`. Out: for every sample the
spectral entropy of its gradient with respect to the output projection, its mean NLL, the number of supervised tokens
and a sketch of each window's gradient; or why it could not be scored. One forward pass a sample. Scores are kept by
content (cache.py), under the fingerprints of weights and tokenizer (identity.py). Knows nothing of other rows.

    identity, checkpoint, loading, model   which model, and the loaded one
    encoding, render, chat_template        text to tokens and supervised positions
    batching, forward, layer, head         the forward pass, with the short cuts that a self-test allowed
    gradient, spectrum, sketch             the numbers
    scorer, reuse, ray_engine              rows in, scores out, here or on a cluster
"""

import os

# transformers would fetch compiled kernels from the hub and run them, where the package `kernels` is installed.
os.environ["USE_HUB_KERNELS"] = "NO"
