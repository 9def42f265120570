"""Data types shared by all parts: values without behaviour."""
