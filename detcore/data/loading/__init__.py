"""From a data set to batches: which reader takes it, how it is shuffled, transformed, collated."""
