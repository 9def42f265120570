"""Input pipelines: ways of reading, decoding, resizing and scaling photographs from files to batches."""
