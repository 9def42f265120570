"""How recipes are computed: one file a runtime, each with its `RUNTIME` and its variants."""
