"""The larger commands of `detcore.cli`, one a file."""
