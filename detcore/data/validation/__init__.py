"""What is wrong with a data set: `detcore data check`."""
