"""From files to batches: ways of reading, decoding, resizing and scaling photographs."""
