"""The engine: it measures a call, and knows nothing of asv, of HTML, or of which variants exist."""
