"""The demo batch, with its labels in a second file, and how it was made."""
