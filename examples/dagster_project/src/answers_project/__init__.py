"""Somebody's pipeline: answers are collected, and a model is trained on them; GradSentry stands between the two."""
