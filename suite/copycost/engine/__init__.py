"""The engine measures calls, independently of asv, HTML and the existing variants."""
