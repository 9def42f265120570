"""Array libraries, each with the functions that the meter needs of it."""
