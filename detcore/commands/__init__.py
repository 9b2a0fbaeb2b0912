"""The larger commands of `detcore.cli`, one per file."""
