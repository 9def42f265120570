"""Find, load and describe runtimes, recipes and variants."""
