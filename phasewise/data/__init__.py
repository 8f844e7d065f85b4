"""From files to batches: readers, splits, the store of decoded samples, loading."""
