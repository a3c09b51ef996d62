"""The search of 0.3.0, as it was: the policies `auto`, `coherence` and `surprise` still stand on it."""
